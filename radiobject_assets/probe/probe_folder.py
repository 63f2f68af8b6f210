"""The folder that survives a probe: what is known, for whoever takes over, and what was run, for ever.

    report.md         the hand-over: focus, latest command and result, suspected cause, next steps, blocking
                      issues, what changed since the run before
    log.jsonl         every trial of every run, UTC, with all its settings and how it ended
    findings.json     the latest findings, as `--json` prints them
    runs/<time>/      stages.csv, tracebacks.txt, resources.svg, and what each trial left

It may name files and people: tracebacks do.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.diagnostics.findings_document import findings_document
from radiobject_assets.probe.child_journal import JOURNAL
from radiobject_assets.probe.resource_plot import resource_plot
from radiobject_assets.probe.steps import ProbeEvidence
from radiobject_assets.probe.trial import Ended, Outcome, StageRow
from radiobject_assets.system.durable_files import write_whole

_MOST_RUNS, _MOST_LINES, _LOG_BYTES = 10, 2000, 4 * 2**20
_SETTINGS = ("loader", "dataset", "n_items", "batch_size", "workers", "start_method", "prefetch", "collate")


class ProbeFolder:
    """Writes a folder, and reads what the run before left there."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()

    def new_run(self, now: datetime) -> Path:
        """A folder for one run; the oldest of many goes."""
        runs = self.path / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        for old in sorted(runs.iterdir())[: -_MOST_RUNS + 1 or None]:
            if len(list(runs.iterdir())) >= _MOST_RUNS:
                shutil.rmtree(old, ignore_errors=True)
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        for number in range(100):
            run = runs / (stamp if not number else f"{stamp}-{number}")
            if not run.exists():
                run.mkdir()
                return run
        raise FileExistsError(runs / stamp)

    def write(
        self, run: Path, now: datetime, command: str, evidence: ProbeEvidence, report: Report, reproduce: str
    ) -> None:
        """Write everything; `report.md` last, so that it names only what is there."""
        before = self._before()
        self._log(now, command, evidence, report)
        outcomes = evidence.outcomes
        write_whole(run / "stages.csv", _stages_csv(outcomes))
        write_whole(run / "tracebacks.txt", _tracebacks(outcomes))
        shown = next((one for one in outcomes if not one.is_fine), outcomes[-1] if outcomes else None)
        if shown is not None:
            write_whole(run / "resources.svg", resource_plot(shown.trial.name, shown.samples))
        for outcome, folder in zip(outcomes, sorted(run.glob("[0-9]*")), strict=False):
            if outcome.is_fine:
                (folder / JOURNAL).unlink(missing_ok=True)  # long, and of no more use
        document = findings_document("probe", evidence.subject.text, [report], with_where=True)
        document["run"] = {
            "at": now.isoformat(timespec="seconds"),
            "loader": {name: evidence.opened.get(name) for name in _SETTINGS},
        }
        write_whole(
            self.path / "report.md",
            _markdown(run.relative_to(self.path), now, command, evidence, report, reproduce, before),
        )
        write_whole(self.path / "findings.json", json.dumps(document, indent=1))

    def _before(self) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = json.loads((self.path / "findings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def _log(self, now: datetime, command: str, evidence: ProbeEvidence, report: Report) -> None:
        log = self.path / "log.jsonl"
        lines = [
            json.dumps(
                {
                    "utc": now.isoformat(timespec="seconds"),
                    "command": command,
                    "trial": one.trial.name,
                    "settings": asdict(one.trial),
                    "ended": _plain(one),
                    "how": one.said(),
                    "seconds": one.seconds,
                    "peaks": dict(one.peaks),
                }
            )
            for one in evidence.outcomes
        ]
        lines.append(
            json.dumps(
                {
                    "utc": now.isoformat(timespec="seconds"),
                    "command": command,
                    "verdict": [one.kind.code for one in report.findings],
                }
            )
        )
        with log.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
        if log.stat().st_size > _LOG_BYTES:
            kept = log.read_text(encoding="utf-8").splitlines()[-_MOST_LINES:]
            write_whole(log, "".join(f"{line}\n" for line in kept))


def _plain(outcome: Outcome) -> str:
    """Succeeded, failed, or stopped by the probe."""
    if outcome.ended in (Ended.SILENT, Ended.MEMORY):
        return "stopped"
    return "succeeded" if outcome.is_fine else "failed"


def _stages_csv(outcomes: Sequence[Outcome]) -> str:
    out = io.StringIO()
    rows = [{"trial": one.trial.name, **asdict(row)} for one in outcomes for row in one.stages]
    names = ["trial", *StageRow.__dataclass_fields__]
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _tracebacks(outcomes: Sequence[Outcome]) -> str:
    told = []
    for one in outcomes:
        for failure in one.failures:
            told.append(
                f"== {one.trial.name}: items {list(failure.items)}, {failure.stage}\n{failure.traceback}"
            )
        if one.stacks:
            told.append(f"== {one.trial.name}: stacks\n{one.stacks}")
        if not one.is_fine and one.stderr.strip():
            told.append(f"== {one.trial.name}: stderr\n{one.stderr.strip()}")
    return "\n\n".join(told) + "\n"


def _markdown(
    run: Path,
    now: datetime,
    command: str,
    evidence: ProbeEvidence,
    report: Report,
    reproduce: str,
    before: Mapping[str, Any] | None,
) -> str:
    first = report.findings[0] if report.findings else None
    opened = evidence.opened
    settings = ", ".join(f"{name.replace('_', ' ')} {opened[name]}" for name in _SETTINGS if name in opened)
    looked = max((one.n_items for one in evidence.items), default=0)
    parts = [
        f"# Probe of `{evidence.subject.text}`",
        "This folder may name files and people: look before you hand it on.",
        "## Current focus",
        f"Why does this loader die? ({settings})"
        if first
        else f"Nothing is wrong as far as was looked. ({settings})",
        "## Latest command and result",
        f"`{command}`, {now:%Y-%m-%d %H:%M:%S} UTC: "
        + (
            f"{len(report.findings)} findings"
            if first
            else f"healthy: {looked} items looked at, nothing found"
        ),
        "## Suspected root cause",
        _cause(first) if first else "None.",
    ]
    if reproduce:
        parts += [f"To see it again (seed {evidence.limits.seed}):", f"```sh\n{reproduce}\n```"]
    if len(report.findings) > 1:
        parts += ["### Also found", "\n".join(f"- {_line(one)}" for one in report.findings[1:])]
    parts += ["## Next steps", _next_steps(report, command), "## Blocking issues", _blocking(evidence)]
    parts += ["## What changed since the run before", _changed(before, report, opened)]
    parts += ["## What was run", _trials(evidence.outcomes)]
    parts += ["## Stages", _stages(evidence)]
    parts += [f"![resources]({run}/resources.svg)", f"Tracebacks and stacks: `{run}/tracebacks.txt`"]
    return "\n\n".join(parts) + "\n"


def _cause(finding: Finding) -> str:
    where = f"\n\n> {finding.where}" if finding.where else ""
    return f"**{finding.kind.problem}** ({finding.about}): {finding.evidence}{where}\n\n{finding.kind.why}"


def _line(finding: Finding) -> str:
    return f"{finding.kind.severity}: {finding.kind.problem} ({finding.about}): {finding.evidence}"


def _next_steps(report: Report, command: str) -> str:
    mends = list(dict.fromkeys(one.what_to_do for one in report.findings))
    steps = [*mends, f"Then again: `{command}`, which adds to this folder and says what changed."]
    return "\n".join(f"{n}. {one}" for n, one in enumerate(steps if mends else ["Nothing."], start=1))


def _blocking(evidence: ProbeEvidence) -> str:
    told = []
    n_items = evidence.opened.get("n_items")
    looked = sum(one.n_items for one in evidence.items)
    if n_items is None:
        told.append("The data set is a stream: how many items it has is not known.")
    elif any(one.ended == Ended.CUT for one in evidence.items) and looked < int(str(n_items)):
        told.append(f"Only {looked:,} of {n_items:,} items were looked at in the time (`--limit`).")
    if evidence.opened.get("workers") == 0 and evidence.own is None:
        told.append("The loader has no workers, so none were tried (`--workers 2` tries two).")
    return "\n".join(f"- {one}" for one in told) or "None."


def _changed(before: Mapping[str, Any] | None, report: Report, opened: Mapping[str, object]) -> str:
    if before is None:
        return "This is the first run."
    old = {one["id"]: one for one in before.get("findings", [])}
    new = {one.id: one for one in report.findings}
    told = [f"gone: {one['problem']} ({one['about']})" for key, one in old.items() if key not in new]
    told += [f"new: {_line(one)}" for key, one in new.items() if key not in old]
    told += [f"still there: {one.kind.problem} ({one.about})" for key, one in new.items() if key in old]
    was = before.get("run", {}).get("loader", {})
    told += [
        f"the loader's {name.replace('_', ' ')} was {was[name]}, is {opened.get(name)}"
        for name in _SETTINGS
        if name in was and was[name] != opened.get(name)
    ]
    since = before.get("run", {}).get("at", "an earlier run")
    return f"Since {since}:\n\n" + ("\n".join(f"- {one}" for one in told) or "- nothing")


def _trials(outcomes: Sequence[Outcome]) -> str:
    rows = [
        f"| {one.trial.name} | {_plain(one)} | {one.said()} | {one.seconds:.1f} | "
        f"{one.peaks.get('memory_mb', 0):,.0f} | {one.peaks.get('open_files', 0):.0f} | "
        f"{one.peaks.get('shared_memory_mb', 0):,.0f} |"
        for one in outcomes
    ]
    head = _head("trial", "result", "how", "seconds", "memory, MB", "open files", "/dev/shm, MB")
    return "\n".join([head, *rows])


def _stages(evidence: ProbeEvidence) -> str:
    """Of one process, where stages are not mixed with those of other workers."""
    if not evidence.items:
        return "None."
    rows = []
    for one in evidence.items[0].stages:
        longest = f"{one.longest_s * 1000:.1f} (item {one.longest_item})"
        cells = (one.stage, one.n, f"{one.mean_s * 1000:.1f}", longest, f"{one.most_mb:g}", one.shapes)
        rows.append(
            "| " + " | ".join(str(c).replace("|", "/") for c in (*cells, one.dtypes, _range(one))) + " |"
        )
    head = _head("stage", "items", "mean, ms", "longest, ms", "most, MB", "shapes", "types", "range")
    return "\n".join([head, *rows])


def _head(*names: str) -> str:
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def _range(row: StageRow) -> str:
    return "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}"
