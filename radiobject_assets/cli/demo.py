"""The demo: a phantom cohort in a landing zone, the real sensors, the real assets, and a summary to read.

<home>/landing        arrivals of the phantom cohort
<home>/dataset.yaml   what is made of them
<home>/store          the RadiObject store
<home>/work           tables, pictures, patch caches
<home>/dagster        the Dagster instance, for `make ui`
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.definitions import DEMO_HOME, build_definitions, build_resources
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.phantom.cohort import DEFAULT_SHAPE, make_cohort
from radiobject_assets.platform.headless import Pass, open_instance, run_pass
from radiobject_assets.platform.overview import Overview, read_overview
from radiobject_assets.system.resource_monitor import ResourceMonitor
from radiobject_assets.system.temporary import staging_folder

DATASET_YAML = """\
# The demo's data set. Copy it for your own: docs/reference/dataset.md explains every key.
name: demo
landing: landing          # each folder in it is one arrival
store: store              # or s3://bucket/store
owners: ["team:imaging"]

collections:
  ct:
    description: CT series in Hounsfield units
    match: {modality: CT}
  seg:
    description: Lesions drawn on the CT
    kind: labels
    labels_of: ct
    match: {modality: SEG}
  t1w:
    description: T1-weighted MR volumes
    match: {files: "*_T1w.nii.gz"}

subjects:
  table: participants.tsv

arrivals:
  quiet_period_s: 10
  trusted_names: "(batch|late)-[0-9]+"   # these folder names name nobody, so they may be shown

split:
  fractions: {train: 0.6, validation: 0.2, test: 0.2}

patches:
  image: ct
  labels: seg
  size_voxels: [32, 32, 32]
  per_volume: 8
  foreground_fraction: 0.5
"""

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DemoSummary:
    """What one call of the demo did, and what there is now."""

    home: Path
    this_pass: Pass
    overview: Overview
    seconds: float
    peak_memory_mb: float
    budget_mb: int

    @property
    def was_needless(self) -> bool:
        """Whether there was nothing to do."""
        return not self.this_pass.runs

    @property
    def has_problems(self) -> bool:
        """Whether a run of this pass failed, or the latest evaluation of any check."""
        return bool(self.this_pass.failed) or bool(self.overview.checks.failed)


def run_demo(
    home: Path,
    *,
    subjects: int = 8,
    seed: int = 7,
    shape: tuple[int, int, int] = DEFAULT_SHAPE,
    on_progress: Report | None = None,
) -> DemoSummary:
    """Make the phantom cohort where there is none yet, take in what is new, and say what is there.

    Parameters
    ----------
    home
        Folder of the demo, made if needed.
    subjects, seed, shape
        Of the phantom cohort; only the first call makes one.
    on_progress
        Called with (done, total, what is being done).

    Raises
    ------
    ConfigurationError
        Another process is at work in this home, or its dataset.yaml was changed to something invalid.
    """
    started = time.monotonic()
    tell = on_progress or (lambda done, total, text: None)
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    with ResourceMonitor() as peak, open_instance(home / "dagster") as instance:
        _prepare(home, subjects, seed, shape, tell)
        dataset = load_dataset(home / "dataset.yaml")
        definitions = build_definitions(dataset)
        done = run_pass(
            definitions,
            instance,
            on_run=lambda what, number, total: tell(number - 1, total, what),
        )
        overview = read_overview(dataset, definitions, instance)
    return DemoSummary(
        home=home,
        this_pass=done,
        overview=overview,
        seconds=time.monotonic() - started,
        peak_memory_mb=peak.peak_mb,
        budget_mb=build_resources(dataset)["memory"].total_mb,
    )


def _prepare(home: Path, subjects: int, seed: int, shape: tuple[int, int, int], tell: Report) -> None:
    """Write dataset.yaml and the cohort where they are missing."""
    settings = home / "dataset.yaml"
    if not settings.is_file():
        settings.write_text(DATASET_YAML, encoding="utf-8")
    landing = home / "landing"
    if landing.is_dir():
        return
    with staging_folder(landing) as growing:  # so that Ctrl-C leaves no half of a cohort behind
        make_cohort(
            growing,
            subjects=subjects,
            seed=seed,
            shape=shape,
            on_progress=lambda done, total, _: tell(done, total, "making phantoms"),
        )


def print_summary(summary: DemoSummary, console: Console) -> None:
    """Show a summary to a person."""
    overview, done = summary.overview, summary.this_pass
    console.print()
    if summary.was_needless:
        console.print("[bold]Nothing to do:[/] everything in the landing zone was taken in before.")
    else:
        names = ", ".join(run.what for run in done.arrivals) or "none"
        console.print(f"[bold]Took in:[/] {escape(names)}")
        console.print(
            f"[bold]Then made:[/] {escape(', '.join(run.what for run in done.follow_ups) or 'nothing')}"
        )
    for run in done.failed:
        console.print(f"[bold red]Failed:[/] {escape(run.what)}: {escape(run.problem)}")
    console.print(_found(overview))
    if overview.quarantined or overview.unreadable:
        console.print(_held_back(overview))
    console.print(_made(overview))
    checks = overview.checks
    colour = "red" if checks.failed else "green"
    console.print(f"[bold]Checks[/]  [{colour}]{checks.passed} passed, {checks.failed} failed[/]")
    for name in checks.warnings:
        console.print(f"  [yellow]look at[/] {escape(name)}")
    for name in checks.failures:
        console.print(f"  [red]{escape(name)}[/]")
    console.print(
        f"[bold]Time[/]    {summary.seconds:.1f} s    [bold]Peak memory[/]  {summary.peak_memory_mb:.0f} MB, "
        f"interpreters included (budget for voxels: {summary.budget_mb} MB)"
    )
    console.print(f"\nLook at it in the browser:  [bold]{escape(_command_for_the_ui(summary.home))}[/]")
    if done.standing_due:
        console.print(
            "Not run: the standing checks of the whole data set (may I train on this?). There they run every "
            f"hour, or at once by the job {escape(', '.join(done.standing_due))}."
        )


def _command_for_the_ui(home: Path) -> str:
    if Path("Makefile").is_file() and home == DEMO_HOME.resolve():
        return "make ui"
    return f"radiobject-assets up --dataset {home / 'dataset.yaml'}"


def _found(overview: Overview) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    held, stray = sum(overview.quarantined.values()), sum(overview.unreadable.values())
    table.add_row("[bold]Found[/]", f"{overview.files} files in {_counted(overview.arrivals, 'arrival')}")
    table.add_row("", f"{overview.series} series: {overview.series - held} ingested, {held} held back")
    table.add_row("", f"{_counted(stray, 'file')} in no series")
    if overview.waiting:
        table.add_row("", f"{overview.waiting} label series wait for their image")
    if overview.loose.count:
        table.add_row("", str(overview.loose))
    if overview.unlisted:
        table.add_row("", f"not in dataset.yaml: {', '.join(overview.unlisted)}")
    return table


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 or noun == "series" else f"{count} {noun}s"


def _held_back(overview: Overview) -> Table:
    table = Table("Held back", "Reason", "What it means", "What to do")
    for what, reasons in (("series", overview.quarantined), ("file", overview.unreadable)):
        for reason, count in reasons.items():
            explanation = EXPLANATIONS[Reason(reason)]
            table.add_row(_counted(count, what), reason, explanation.meaning, explanation.action)
    return table


def _made(overview: Overview) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    volumes = ", ".join(f"{name} {count}" for name, count in overview.collections.items())
    table.add_row("[bold]Store[/]", escape(overview.store_uri))
    table.add_row("", f"{overview.subjects} subjects; volumes: {volumes}")
    table.add_row("[bold]Split[/]", escape(overview.splits_table))
    table.add_row("", ", ".join(f"{name} {count}" for name, count in overview.split.items()))
    for index, cache in enumerate(overview.patches):
        table.add_row(
            "[bold]Patches[/]" if index == 0 else "",
            f"{cache.split}: {cache.n_patches} in {escape(str(cache.path))}",
        )
    if overview.pictures:
        folder = overview.pictures[0].parent.parent
        table.add_row("[bold]Pictures[/]", f"{len(overview.pictures)} in {escape(str(folder))}")
    if overview.sheet:
        table.add_row("[bold]Sheet[/]", f"{escape(overview.sheet)} (open it in a browser)")
    return table
