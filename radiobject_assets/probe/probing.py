"""A probe from the name of a loader to a verdict and a folder that says it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.probe.probe_folder import ProbeFolder
from radiobject_assets.probe.probed_subject import subject_of
from radiobject_assets.probe.running import run_trial
from radiobject_assets.probe.steps import ProbeEvidence, ProbeLimits, run_steps
from radiobject_assets.probe.trial import Outcome, Trial
from radiobject_assets.probe.verdict import verdict
from radiobject_assets.system.memory import usable_memory_mb

if TYPE_CHECKING:
    from radiobject_assets.store import RadiObjectConfig

# Of the memory that is there: the rest is for the probe and for whoever else is at work.
_OF_MEMORY = 0.8


@dataclass(frozen=True)
class ProbeResult:
    """What a probe came to."""

    report: Report
    evidence: ProbeEvidence
    folder: Path
    reproduce: str
    """One command that shows the first finding again; empty where nothing was found."""


def probe_loader(
    subject: str,
    output: Path | None = None,
    limits: ProbeLimits | None = None,
    on_step: Callable[[str], None] = lambda name: None,
    config: RadiObjectConfig | None = None,
) -> ProbeResult:
    """Find out why a loader dies, or that it does not.

    Parameters
    ----------
    subject
        `module:factory` (or `FILE:factory`), which gives a DataLoader, a Dataset, or the loaders for
        training and validation; a store; the folder of a patch cache.
    output
        Folder of the report; by default `probe/` and the subject's name, where the caller is. A folder that
        is there is added to.
    on_step
        Called with the name of each trial before it begins.
    config
        How a store is opened, in the children too; without it as the environment says.

    Raises
    ------
    ConfigurationError
        The subject is none of these.
    """
    named = subject_of(subject)
    limits = limits or ProbeLimits()
    if limits.memory_mb <= 0:
        limits = replace(limits, memory_mb=usable_memory_mb() * _OF_MEMORY)
    folder = ProbeFolder(output if output is not None else Path("probe") / named.slug)
    now = datetime.now(UTC)
    run = folder.new_run(now)
    command = f"radiobject-assets probe {shlex.quote(subject)}"
    told = None if config is None else config.model_dump(mode="json")
    evidence = run_steps(named, run, limits, on_step, told)
    report = verdict(evidence)
    reproduce = reproducing_command(evidence, report)
    folder.write(run, now, command, evidence, report, reproduce)
    return ProbeResult(report, evidence, folder.path, reproduce)


def reproducing_command(evidence: ProbeEvidence, report: Report) -> str:
    """The command that runs the least trial that failed."""
    if not report.findings:
        return ""
    failed = next((one for one in (evidence.alone, *evidence.items) if one and not one.is_fine), None)
    own = evidence.own
    text = shlex.quote(evidence.subject.text)
    base = f"radiobject-assets probe {text} --seed {evidence.limits.seed}"
    if failed is not None:
        trial = failed.trial
        items = f" --items {','.join(map(str, trial.items))}" if trial.items else ""
        size = f" --batch-size {trial.batch_size}" if trial.batch_size and trial.batch_size > 1 else ""
        return f"{base} --step items{items}{size}"
    if own is not None and not own.is_fine:
        return f"{base} --step workers --workers {evidence.workers} --start-method {evidence.method}"
    return base


def one_trial(trial: Trial, folder: Path) -> Outcome:
    """Run one trial, as the command that reproduces a finding does."""
    subject_of(trial.subject)
    if trial.memory_mb <= 0:
        trial = replace(trial, memory_mb=usable_memory_mb() * _OF_MEMORY)
    return run_trial(trial, folder / "trial")
