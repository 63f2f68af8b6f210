"""`radiobject-assets ingest`: what is asked for, and doing it.

`cli.commands` declares the arguments for people. A plain command line for machines is understood here, so
that it needs neither typer nor rich: they take 70 ms to load, a quarter of what one series takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from radiobject_assets.cli.plain import store_uri
from radiobject_assets.cli.start import loading
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.system.pyarrow_start import pyarrow_without_pandas

if TYPE_CHECKING:
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings
    from radiobject_assets.ingest import IngestReport

_VALUED = frozenset({"--store", "--dataset", "--layout", "--memory-mb", "--workers"})


@dataclass(frozen=True)
class IngestRequest:
    """The arguments of `ingest` as they were given; None for what was not."""

    source: tuple[str, ...]
    store: str | None = None
    dataset: Path | None = None
    memory_mb: int | None = None
    workers: int | None = None
    layout: str | None = None


def plain_request(arguments: Sequence[str]) -> IngestRequest | None:
    """The request of a command line with `--json` that leaves no doubt; None leaves it to typer.

    So does everything that is a mistake or asks for help: typer has the words for that.
    """
    source: list[str] = []
    given: dict[str, str] = {}
    as_json = False
    rest = iter(arguments)
    for item in rest:
        name, separator, value = item.partition("=")
        if item == "--json":
            as_json = True
        elif not item.startswith("-"):
            source.append(item)
        elif name in _VALUED:
            value = value if separator else next(rest, "-")
            if value.startswith("-"):
                return None
            given[name] = value
        else:
            return None
    numbers = {name: given[name] for name in ("--memory-mb", "--workers") if name in given}
    if not (as_json and source) or not all(n.isascii() and n.isdecimal() for n in numbers.values()):
        return None
    return IngestRequest(
        tuple(source),
        given.get("--store"),
        Path(given["--dataset"]) if "--dataset" in given else None,
        int(numbers["--memory-mb"]) if "--memory-mb" in numbers else None,
        int(numbers["--workers"]) if "--workers" in numbers else None,
        given.get("--layout"),
    )


def take_in(
    request: IngestRequest, on_progress: Callable[[int, int, str], None] | None = None
) -> tuple[IngestReport, str]:
    """Take what is asked for into the store; the report, and the store's URI.

    Raises
    ------
    RadiObjectError
        As `ingest_sources` does, or the request names no store or an empty source.
    """
    with loading():
        pyarrow_without_pandas()
        from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
        from radiobject_assets.ingest import ingest_sources
        from radiobject_assets.system.compute import Compute
        from radiobject_assets.system.memory import MemoryBudget

    if request.layout is not None:
        config = _laid_out(request)
    elif request.dataset is None:
        config = DatasetSettings.model_construct()  # defaults need no validators, which take 30 ms to make
    else:
        config = load_dataset(request.dataset.expanduser())
    if request.store is not None:
        store = store_uri(request.store)
    elif request.dataset is not None:
        store = store_uri(config.store_uri)
    else:
        raise ConfigurationError("say where to: --store URI, or a --dataset file that names its store")
    report = ingest_sources(
        [_source_path(item) for item in request.source],
        store,
        config,
        budget=MemoryBudget() if request.memory_mb is None else MemoryBudget(request.memory_mb),
        compute=Compute() if request.workers is None else Compute(workers=request.workers),
        on_progress=on_progress,
    )
    return report, store


def _laid_out(request: IngestRequest) -> DatasetSettings:
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings
    from radiobject_assets.dataset.layouts import LAYOUTS

    if request.dataset is not None:
        raise ConfigurationError(
            f"--layout goes without --dataset: write `layout: {request.layout}` into {request.dataset}"
        )
    if request.layout not in LAYOUTS:
        raise ConfigurationError(f"--layout {request.layout}: there are {', '.join(LAYOUTS)}")
    return DatasetSettings.model_validate({"layout": request.layout})


def _source_path(text: str) -> Path:
    if not text:  # an unset variable in a script would take in the current folder
        raise ConfigurationError("a SOURCE is empty: name a folder or a file")
    return Path(text).expanduser()
