"""`radiobject-assets probe`: why a loader dies, for somebody whose training does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from radiobject_assets.cli.findings_output import print_findings
from radiobject_assets.cli.output import JsonFlag, err, out, print_json
from radiobject_assets.cli.store import store_uri
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.probe.trial import Outcome

_METHODS = ("fork", "spawn", "forkserver")


def probe(
    subject: Annotated[
        str,
        typer.Argument(
            help="module:factory or FILE:factory (it gives a DataLoader, a Dataset, or the loaders for "
            "training and validation), a store, or the folder of a patch cache.",
            metavar="LOADER",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the report; without it one in `probe/`."),
    ] = None,
    as_json: JsonFlag = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Workers to try, in the place of the loader's own.")
    ] = None,
    start_method: Annotated[
        list[str] | None,
        typer.Option(help="How workers are started, beside the loader's own way; without it all ways."),
    ] = None,
    silent: Annotated[
        float, typer.Option(min=1, help="Seconds after which a process that says nothing is ended.")
    ] = 120,
    limit: Annotated[float, typer.Option(min=1, help="Seconds for one trial.")] = 300,
    memory_mb: Annotated[
        float, typer.Option(help="MB that the loader may take; without it four fifths of what is there.")
    ] = 0,
    integrity: Annotated[int, typer.Option(help="Items whose files or digests are compared.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of everything that the loader draws.")] = 0,
    step: Annotated[
        str | None,
        typer.Option(help="Only one trial, to see a finding again: `items` (one process) or `workers`."),
    ] = None,
    items: Annotated[str | None, typer.Option(help="With --step: numbers of items, `17` or `3,4`.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="With --step: items in a batch.")] = None,
) -> None:
    """Find out why a PyTorch loader dies or hangs: which item, which transform, or what the machine lacks.

    Runs the loader in child processes, item by item and stage by stage, then with workers, each trial within
    a limit of time and memory. Writes a folder with `report.md`; a later run on the same loader adds to it
    and says what changed. Exit code 0: healthy. 1: findings. 2: could not run.
    """
    for method in start_method or ():
        if method not in _METHODS:
            raise ConfigurationError(f"--start-method {method}: use {', '.join(_METHODS)}")
    if "://" in subject:
        subject = store_uri(subject)
    if step is not None:
        _one_trial(subject, step, items, batch_size, workers, start_method, silent, limit, memory_mb, seed)
        return
    from radiobject_assets.diagnostics.findings_document import exit_code, findings_document
    from radiobject_assets.probe.probing import probe_loader
    from radiobject_assets.probe.steps import START_METHODS, ProbeLimits

    limits = ProbeLimits(
        silent, limit, memory_mb, integrity, workers, tuple(start_method or START_METHODS), seed
    )
    result = probe_loader(subject, output, limits, lambda name: err.print(f"[dim]{escape(name)}[/]"))
    if as_json:
        print_json(findings_document("probe", subject, [result.report], with_where=True))
    else:
        print_findings([result.report], out)
        if result.reproduce:
            out.print(f"[bold]To see it again:[/] {escape(result.reproduce)}", soft_wrap=True)
        out.print(f"Report: {escape(str(result.folder / 'report.md'))}", soft_wrap=True)
    raise typer.Exit(exit_code([result.report]))


def _one_trial(
    subject: str,
    step: str,
    items: str | None,
    batch_size: int | None,
    workers: int | None,
    start_method: list[str] | None,
    silent: float,
    limit: float,
    memory_mb: float,
    seed: int,
) -> None:
    from radiobject_assets.probe.probing import one_trial
    from radiobject_assets.probe.trial import Mode, Trial
    from radiobject_assets.system.temporary import temporary_folder

    try:
        chosen = tuple(int(one) for one in items.split(",")) if items else None
        mode = {"items": Mode.ITEMS, "workers": Mode.WORKERS}[step]
    except (ValueError, KeyError):
        raise ConfigurationError(
            f"--step {step} --items {items}: use `items` or `workers`, and numbers of items such as 3,4"
        ) from None
    trial = Trial(
        subject, mode, step, chosen, workers=workers, start_method=start_method[0] if start_method else None,
        batch_size=batch_size, seed=seed, limit_s=limit, silent_s=silent, memory_mb=memory_mb,
    )  # fmt: skip
    with temporary_folder() as folder:
        outcome = one_trial(trial, folder)
    _print_outcome(outcome)
    raise typer.Exit(0 if outcome.is_fine else 1)


def _print_outcome(outcome: Outcome) -> None:
    for failure in outcome.failures:
        out.print(escape(failure.traceback), highlight=False, soft_wrap=True)
    if outcome.stacks:
        out.print(escape(outcome.stacks), highlight=False, soft_wrap=True)
    out.print(escape(outcome.said()))
