"""What every command prints with, and the arguments that several have."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

err = Console(stderr=True, soft_wrap=True)
out = Console(width=None if sys.stdout is not None and sys.stdout.isatty() else 140)

# Files without an image, and ids, that are listed; a landing zone may have thousands.
SHOWN = 10
Report = Callable[[int, int, str], None]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def table_of(*headings: str) -> Table:
    """An empty table whose first column is never wrapped."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    return table


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """A function (done, total, text) that draws a bar on a terminal and is silent in a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total or None, description=escape(text) or what
        )


def print_json(document: Any) -> None:
    """Write the one JSON document of `--json` to stdout."""
    # JSON escapes what another encoding can't show; UTF-8 shows all but the bytes of odd file names
    in_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=not in_utf8) + "\n")


def warn(text: str) -> None:
    """Say on stderr what is no error, and is to be known all the same."""
    sys.stderr.write(f"warning: {text}\n")
