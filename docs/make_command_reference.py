"""Writes docs/reference/command-line.md from the help of the commands.

    python docs/make_command_reference.py

A test holds the page against what this would write.
"""

from __future__ import annotations

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from radiobject_assets.cli.commands import app

PAGE = Path(__file__).resolve().parent / "reference" / "command-line.md"

HEAD = """\
# The command line

What holds of every command:

- `--help` has an example.
- A progress bar on a terminal, none in a pipe.
- An error is one line that says what to do; `radiobject-assets --debug ...` shows the traceback too.
- Exit code 0: fine. 1: problems were found. 2: it could not run. Those of `ingest` in full:
  [reasons](reasons.md#exit-codes-of-ingest).
- `--json` prints one JSON document on stdout, and nothing else.
- A store is a path, `file://` or `s3://`; credentials, endpoint and region of S3 come from the usual AWS
  variables.

`ingest --json` is an object with

- `series`: each series, with `series_uid`, `subject_id`, `collection`, `obs_id`, `verdict`, `reason`,
  `reasons`, `detail`, `n_instances` (files, duplicates included), `shape`, `dtype`, `source`, and `status`
  (`written`, `updated`, `unchanged`, `quarantined`, `not_selected`);
- `unreadable`: each file that is in no series, with `path`, `reason` and `detail`;
- `counts`: of series, files and bytes by what became of them. `n_instances` of all series and the number of
  unreadable files add up to `files`;
- `problems`: what went wrong beside the images, as a subjects' table that can't be read;
- `warnings`: subjects that look wrong by the names of their files;
- `resolved`: labels of earlier calls that came in now, because their image has come;
- `seconds`, `peak_memory_mb`, `budget_mb`: time, and peak memory of the process tree beside its budget.

Written by `docs/make_command_reference.py`.

"""


def page() -> str:
    """The page on all commands; of a group only its commands."""
    command = get_command(app)
    told = get_docs_for_click(obj=command, ctx=typer.Context(command), name="radiobject-assets")
    sections = re.split(r"^#+ (?=`)", told.replace("```console\n$ ", "```text\n"), flags=re.MULTILINE)
    return HEAD + "\n".join(f"## {s.rstrip()}\n" for s in sections if s.strip() and "**Commands**" not in s)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
