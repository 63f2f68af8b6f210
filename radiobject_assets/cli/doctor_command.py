"""`radiobject-assets doctor`: what is damaged in a store and beside it, and mending it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from radiobject_assets.cli.findings_output import print_findings
from radiobject_assets.cli.output import SHOWN, JsonFlag, err, out, print_json, progress
from radiobject_assets.cli.store import store_uri
from radiobject_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from radiobject_assets.diagnostics.findings import Finding, Report
    from radiobject_assets.doctor.examined import Examined
    from radiobject_assets.doctor.mending import MendsDone


def doctor(
    store: Annotated[str, typer.Argument(help="Store to look at: a path, file:// or s3://.")],
    dataset: Annotated[
        Path | None, typer.Option(help="dataset.yaml: everything beside the store is looked at as well.")
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(help="Folder or file that volumes were made from, where there is no dataset.yaml."),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what was found; asks for each kind.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: whatever is safe, without asking.")] = False,
    delete: Annotated[
        list[str] | None,
        typer.Option(
            help="KIND:ID of a finding whose mend loses something that can't be made again; may be repeated.",
            metavar="KIND:ID",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only the exit code and one line; for CI.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Read no voxels.")] = False,
    grace_hours: Annotated[
        float | None,
        typer.Option(
            help="Hours for which what nobody names is left alone; else `upkeep.keep_arrays_hours` of "
            "dataset.yaml, or 24.",
            min=0,
        ),
    ] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Memory budget of the mends in MB.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes of the mends.")] = None,
    output: Annotated[str, typer.Option("--format", help="`text` or `json`.")] = "text",
    as_json: JsonFlag = False,
) -> None:
    """Look for everything that is wrong with a store, and mend it while others read and write it.

    With --dataset also what is beside it: tables, profiles, pictures, patch caches. What was interrupted goes
    on with the same command. Exit code 0: nothing found, or all of it mended. 1: findings. 2: could not run.
    """
    if output not in ("text", "json"):
        raise ConfigurationError(f"--format {output}: use text or json")
    if check and (fix or delete):
        raise ConfigurationError("--check mends nothing: leave out --fix and --delete, or --check")
    if yes and not fix:
        raise ConfigurationError("--yes goes with --fix")
    from radiobject_assets.diagnostics.findings_document import exit_code, findings_document
    from radiobject_assets.doctor.mending import MendOptions, mend

    in_json = as_json or output == "json"
    examined = _opened(store, dataset, grace_hours)
    reports = _reports(examined, voxels=not quick, quiet=in_json or check)
    done: MendsDone | None = None
    if fix or delete:
        options = MendOptions(
            sources=tuple(source or ()),
            delete=frozenset(delete or ()),
            voxels_read=not quick,
            memory_mb=memory_mb,
            workers=workers,
            agrees=(lambda kind, found: True) if yes else _ask if fix else (lambda kind, found: False),
        )
        found = [finding for report in reports for finding in report.findings]
        with progress("mending") as tell:
            done = mend(examined, found, options, on_progress=tell)
        reports = _reports(_opened(store, dataset, grace_hours), voxels=not quick, quiet=True)
    if in_json:
        document = findings_document("doctor", store, reports)
        print_json({**document, **({} if done is None else {"mends": done.to_json()})})
    elif check:
        count = sum(len(report.findings) for report in reports)
        out.print(f"{escape(store)}: {count} findings" if count else f"{escape(store)}: nothing found")
    else:
        if done is not None:
            _print_mends(done)
        print_findings(_merged(reports), out)
        _print_by_name([finding for report in reports for finding in report.findings])
    if exit_code(reports):
        raise typer.Exit(1)


def _opened(store: str, dataset: Path | None, grace_hours: float | None) -> Examined:
    from radiobject_assets.doctor.examined import GRACE_S, Beside, Examined

    uri = store_uri(store)
    beside, grace_s = None, GRACE_S
    if dataset is not None:
        from radiobject_assets.dataset.dataset_yaml import load_dataset
        from radiobject_assets.definitions import build_resources
        from radiobject_assets.store import normalise

        settings = load_dataset(dataset.expanduser())
        if normalise(settings.store_uri) != normalise(uri):
            raise ConfigurationError(f"{dataset}: its store is {settings.store_uri}, not {store}")
        resources = build_resources(settings)
        beside = Beside(resources["dataset"], resources["storage"])
        grace_s = settings.upkeep.keep_arrays_hours * 3600
    return Examined(uri, beside, grace_s=grace_s if grace_hours is None else grace_hours * 3600)


def _reports(examined: Examined, *, voxels: bool, quiet: bool) -> list[Report]:
    from radiobject_assets.doctor.examination import examine

    reports = []
    seen: set[str] = set()
    with progress("looking") as tell:
        for report in examine(examined, voxels=voxels, on_progress=tell):
            reports.append(report)
            for finding in report.findings:
                if not quiet and finding.kind.code not in seen:  # so that nobody waits hours for the first
                    seen.add(finding.kind.code)
                    text = f"found: {escape(finding.kind.problem)} ({escape(finding.about)})"
                    err.print(text, highlight=False)
    return reports


def _merged(reports: Sequence[Report]) -> list[Report]:
    """Portions of one rule as one report, so that a page counts each thing once."""
    from dataclasses import replace

    merged: dict[str, Report] = {}
    for report in reports:
        before = merged.get(report.what)
        if before is None:
            merged[report.what] = report
        else:
            found = (*before.findings, *report.findings)
            said = "; ".join(dict.fromkeys(filter(None, (before.said, report.said))))
            looked_at = max(before.looked_at, report.looked_at)
            merged[report.what] = replace(before, looked_at=looked_at, findings=found, said=said)
    return [report for report in merged.values() if report.looked_at or report.findings]


def _ask(kind: str, found: Sequence[Finding]) -> bool:
    one = found[0].kind
    text = f"{one.problem} ({len(found)}): {found[0].what_to_do}"
    return typer.confirm(f"{text}\nMend it?", default=False, err=True)


def _print_by_name(findings: Sequence[Finding]) -> None:
    """What only a KIND:ID mends, since something is lost by it."""
    from radiobject_assets.doctor.deletions import DELETABLE

    named = [one for one in findings if one.kind in DELETABLE]
    if named:
        out.print("\nOnly by name, since it can't be undone:")
    for one in named[:SHOWN]:
        out.print(f"  --delete {one.kind.code}:{one.id}  {escape(one.about)}", highlight=False)
    if len(named) > SHOWN:
        out.print(f"  and {len(named) - SHOWN:,} more; --format json lists all")


def _print_mends(done: MendsDone) -> None:
    for note in done.notes:
        colour = "green" if note.stage == "mended" else "yellow"
        result = f": {escape(note.result)}" if note.result else ""
        out.print(f"[{colour}]{note.stage}[/] {note.kind} {escape(note.about)}{result}", highlight=False)
    for text in done.said:
        out.print(escape(text))
