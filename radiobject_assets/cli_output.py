"""What every command prints with, and the arguments that several have."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from radiobject_assets.errors import ConfigurationError

err = Console(stderr=True, soft_wrap=True)
out = Console(width=None if sys.stdout is not None and sys.stdout.isatty() else 140)

# Files without an image, and ids, that are listed; a landing zone may have thousands.
SHOWN = 10
Report = Callable[[int, int, str], None]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def store_uri(text: str) -> str:
    """A store as the user wrote it: `~` becomes the home folder (no shell does that in `--store=~/x`)."""
    from radiobject_assets.dataset import check_store_uri

    try:
        check_store_uri(text)
    except ValueError as error:
        raise ConfigurationError(f"{text}: {error}" if text else str(error)) from None
    if text.startswith("s3://"):
        _use_s3_variables()
    return text if "://" in text else str(Path(text).expanduser())


def _use_s3_variables() -> None:
    """Take endpoint and region from the usual AWS variables, as the Dagster resources do."""
    from radiobject_assets.store.config import S3Config, configure

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    # servers other than Amazon's seldom answer to bucket names in the host
    addressing = S3Config(endpoint=endpoint, use_virtual_addressing=endpoint is None)
    configure(s3=addressing.model_copy(update={"region": region}) if region else addressing)


def table_of(*headings: str) -> Table:
    """An empty table whose first column is never wrapped."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    return table


def print_json(document: Any) -> None:
    """Write the one JSON document of `--json` to stdout."""
    # JSON escapes what another encoding can't show; UTF-8 shows all but the bytes of odd file names
    in_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=not in_utf8) + "\n")


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """A function (done, total, text) that draws a bar on a terminal and is silent in a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total or None, description=escape(text) or what
        )
