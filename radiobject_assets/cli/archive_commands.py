"""`radiobject-assets fetch` and `receive`: from archives and senders into a landing zone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radiobject_assets.cli.output import JsonFlag, out, print_json, progress
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.archives.source_pass import SourcePass
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings

_DATASET = typer.Option(help="dataset.yaml with `sources` and `receiver`.")


def fetch_studies(
    source: Annotated[
        list[str] | None, typer.Argument(help="Sources by name; all, without one.", metavar="SOURCE...")
    ] = None,
    dataset: Annotated[Path, _DATASET] = Path("dataset.yaml"),
    once: Annotated[
        bool, typer.Option("--once", help="One pass: what may still grow in the archive waits for the next.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Ask the archives of dataset.yaml for what is new, and deliver what is whole into the landing zone.

    It waits until the archive has been quiet about every study that it began (`quiet_period_s`). What was
    interrupted goes on with the same command. Exit code 1: an archive announces more than it sent, no longer
    lists what it began to send, or gave no answer. 2: could not run.
    """
    settings = _settings(dataset)
    unknown = [name for name in source or () if name not in settings.sources]
    if unknown or not settings.sources:
        known = ", ".join(settings.sources) or "none"
        raise ConfigurationError(
            f"{dataset}: `sources` has no {', '.join(unknown) or 'archive'}; it has {known}"
        )
    done = [last for name in source or settings.sources for last in _passes(settings, name, once)]
    if as_json:
        print_json({"sources": [asdict(one) for one in done]})
    if not all(one.is_sound for one in done):
        raise typer.Exit(1)


def _passes(settings: DatasetSettings, name: str, once: bool) -> Iterator[SourcePass]:
    """Passes over a source, as many as it takes."""
    from radiobject_assets.archives.fetching import fetch

    config, began_s = settings.sources[name], time.time()
    while True:
        with progress(f"studies of {name}") as report:
            done = fetch(
                name,
                config,
                settings.delivery_place(config.into),
                folder=settings.folder,
                marker=settings.arrivals.complete_marker,
                anew_since_s=began_s,
                on_study=lambda number, of: report(number, of, ""),
            )
        yield done
        if once or done.problem or (not done.left and done.wait_s is None):
            return
        time.sleep(0 if done.left else done.wait_s or 0)


def receive_studies(
    dataset: Annotated[Path, _DATASET] = Path("dataset.yaml"),
    host: Annotated[
        str | None, typer.Option(help="Address to listen on, in place of `receiver.host`.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, in place of `receiver.port`.")] = None,
    deliver: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Do not listen: close a study (its token) whose sender broke off and does not come back, so "
            "that it is delivered as it is.",
        ),
    ] = None,
) -> None:
    """Listen for scanners and archives that send (DICOM C-STORE), until it is stopped (Ctrl-C).

    A study becomes an arrival when its senders have ended in order and it has been quiet for
    `receiver.quiet_period_s`. Killed at any time, it goes on where it was. Exit code 1: there is no such
    study. 2: could not run.
    """
    from radiobject_assets.archives.receiver import receive
    from radiobject_assets.archives.receiving import close_study
    from radiobject_assets.dataset.source_section import ReceiverConfig

    settings = _settings(dataset)
    config = settings.receiver or ReceiverConfig()
    changed = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    config = ReceiverConfig(**{**config.model_dump(), **changed})
    landing = settings.delivery_place(config.into)
    if deliver is not None:
        if not close_study(landing, deliver):
            out.print("no study of that token is open", highlight=False)
            raise typer.Exit(1)
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    receive(
        config,
        landing,
        folder=settings.folder,
        marker=settings.arrivals.complete_marker,
        on_ready=lambda at: out.print(
            f"{config.ae_title} listens on {config.host} port {at}", highlight=False
        ),
    )


def _say_ready(text: str) -> None:
    out.print(text, highlight=False, markup=False)
    out.file.flush()


def _settings(path: Path) -> DatasetSettings:
    from radiobject_assets.dataset.dataset_yaml import load_dataset

    return load_dataset(path)
