"""One progress bar for the store: on a terminal and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, label: str | None, wanted: bool) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each item; shows a bar if `wanted` and stderr is a terminal."""
    if not wanted:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label or "volumes", total=total)
        yield lambda: bar.advance(task)
