"""From what the trials came to, to findings: small rules, the likeliest cause first.

A rule says nothing where another one's cause explains what it sees: errors of items come before errors of
workers, and what the machine lacks (memory, files, /dev/shm) before both.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from radiobject_assets.diagnostics import kinds, loader_kinds as lk
from radiobject_assets.diagnostics.findings import Finding, Kind, Report, shown_token
from radiobject_assets.diagnostics.kind_registry import every_kind
from radiobject_assets.probe.steps import ProbeEvidence
from radiobject_assets.probe.trial import Ended, Mode, Outcome, StageFailure, exit_text, items_text

_CRASHES = {-int(getattr(signal, n)) for n in ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE", "SIGBUS", "SIGTRAP")}
_OPEN_FILES = re.compile(r"Too many open files|received 0 items of ancdata|Errno 24\b")
_SHARED_MEMORY = re.compile(
    r"insufficient shared memory|unable to allocate shared memory|"
    r"(torch_|/dev/shm|shm).{0,200}No space left on device|No space left on device.{0,200}(torch_|shm)",
    re.S,
)
_MEMORY = re.compile(
    r"not enough memory: you tried to allocate|Cannot allocate memory|Unable to allocate .* for an array|"
    r"can't allocate memory"
)
_CHANNELS = re.compile(
    r"channel|doesn't match the broadcast shape|must match the (existing )?size|could not be broadcast|"
    r"expected .{0,40}\b(dim|dimension|shape|size)|size of tensor a",
    re.I,
)
_PICKLING = re.compile(r"pickl|Can't get local object", re.I)
_SLOW_S, _SLOW_TIMES = 10.0, 20.0
# Files that each item leaves open, over so many items.
_GROWS, _GROWS_ITEMS = 0.5, 20


@dataclass(frozen=True)
class LoaderRule:
    """One question about a loader."""

    name: str
    describe: str
    find: Callable[[ProbeEvidence], Iterator[Finding]]


def _text_of(outcome: Outcome) -> str:
    return "\n".join([outcome.stderr, *(f"{one.message}\n{one.traceback}" for one in outcome.failures)])


def _at(outcome: Outcome) -> str:
    """Where, for the evidence: `one process`, `2 workers fork`."""
    return outcome.trial.name


def _finding(kind: Kind, about: str, evidence: str, failure: StageFailure | None = None) -> Finding:
    where = f"{failure.error}: {failure.message}" if failure is not None else ""
    return Finding(kind, about, evidence, where=where[:500])


def _own_trials(evidence: ProbeEvidence) -> Iterator[Outcome]:
    """Those that run what the loader is set to, and not another way of starting workers."""
    yield from evidence.items
    if evidence.own is not None:
        yield evidence.own
    if evidence.as_is is not None:
        yield evidence.as_is


def _can_be_made(evidence: ProbeEvidence) -> Iterator[Finding]:
    kind = {"store": lk.STORE_UNREADABLE, "cache": lk.CACHE_UNREADABLE}.get(
        evidence.subject.kind, lk.FACTORY_FAILS
    )
    for outcome in evidence.outcomes:
        for failure in outcome.failures:
            if failure.stage == "factory" or (evidence.subject.kind == "store" and failure.stage == "loader"):
                told = f"{failure.error} at {failure.line}" if failure.line else failure.error
                yield _finding(kind, evidence.subject.kind, told, failure)
                return
        last = outcome.last
        if last is not None and last.stage == "factory":
            ended = exit_text(outcome.code or 0) if outcome.ended == Ended.DIED else str(outcome.ended)
            yield _finding(kind, evidence.subject.kind, f"{ended}, while it was made")
            return


def _is_whole(evidence: ProbeEvidence) -> Iterator[Finding]:
    for found in (one for outcome in evidence.outcomes for one in outcome.found):
        if "token" in found:
            kind = kinds.OF_ARRAYS.get(found["kind"], kinds.ARRAY_UNREADABLE)
            yield Finding(
                kind, f"volume {shown_token(found['token'])}", found["evidence"],
                collection=found["collection"],
            )  # fmt: skip
        else:
            yield Finding(
                every_kind()[found["kind"]], f"item {found['item']}", found["evidence"], where=found["where"]
            )


def _has_memory(evidence: ProbeEvidence) -> Iterator[Finding]:
    for outcome in _own_trials(evidence):
        peak = f"{outcome.peaks.get('memory_mb', 0):,.0f} MB at most"
        items, stage = outcome.where()
        at = f", at {items_text(items)}, {stage}" if items else ""
        if outcome.ended == Ended.MEMORY:
            limit = f"the limit of {outcome.trial.memory_mb:,.0f} MB"
            yield _finding(lk.MEMORY, _at(outcome), f"{peak}, over {limit}{at}{_grows(outcome)}")
            return
        for failure in outcome.failures:
            if failure.error == "MemoryError" or _MEMORY.search(failure.message):
                yield _finding(lk.MEMORY, _at(outcome), f"{failure.error}{at}; {peak}", failure)
                return
        codes = [one.code for one in outcome.dead_workers] or [outcome.code or 0]
        if -signal.SIGKILL in codes and outcome.ended in (Ended.RAISED, Ended.DIED):
            kernel = (
                f"; the kernel killed {outcome.kernel_kills} for memory meanwhile"
                if outcome.kernel_kills
                else "; the kernel does not say that it did (a container's supervisor, or somebody else)"
            )
            yield _finding(lk.MEMORY, _at(outcome), f"killed by SIGKILL{at}; {peak}{kernel}")
            return


def _grows(outcome: Outcome) -> str:
    sizes = [one.memory_mb for one in outcome.samples]
    if len(sizes) < 8 or outcome.n_items < 8:
        return ""
    grown = sizes[-1] - sizes[len(sizes) // 4]
    return f"; grown by {grown:,.0f} MB over {outcome.n_items} items" if grown > 0.3 * sizes[-1] else ""


def _has_shared_memory(evidence: ProbeEvidence) -> Iterator[Finding]:
    for outcome in _own_trials(evidence):
        bus = any(one.code == -signal.SIGBUS for one in outcome.dead_workers)
        if bus or (not outcome.is_fine and _SHARED_MEMORY.search(_text_of(outcome))):
            used = outcome.peaks.get("shared_memory_mb", 0)
            limit = outcome.opened.get("shared_memory_limit_mb")
            told = f"{used:,.0f} MB used" + (f" of {limit:,.0f} MB" if limit else "")
            how = "a worker died of SIGBUS" if bus else outcome.failures[0].error if outcome.failures else ""
            smaller = evidence.batches_of_one
            helps = "; batches of one item fit" if smaller is not None and smaller.is_fine else ""
            first = outcome.failures[0] if outcome.failures else None
            yield _finding(lk.SHARED_MEMORY, "/dev/shm", f"{told}; {how}{helps}", first)
            return


def _has_files(evidence: ProbeEvidence) -> Iterator[Finding]:
    for outcome in _own_trials(evidence):
        for failure in outcome.failures:
            if _OPEN_FILES.search(f"{failure.message}\n{failure.traceback}"):
                grown = _files_per_item(outcome)
                seen = max([*outcome.item_files.values(), int(outcome.peaks.get("open_files", 0))])
                told = f"{seen} seen, limit {_limit(outcome)}"
                grows = f"; each item leaves {grown:.1f} open" if grown >= _GROWS else ""
                yield _finding(lk.OPEN_FILES, _at(outcome), f"{told}{grows}; {failure.line}", failure)
                return


def _limit(outcome: Outcome) -> str:
    return str(outcome.opened.get("open_files_limit", "unknown"))


def _files_per_item(outcome: Outcome, kept: int = 0) -> float:
    """Files that each item leaves open, without those that may be `kept` open on purpose."""
    counts = list(outcome.item_files.values())
    return (max(counts) - counts[0] - kept) / (len(counts) - 1) if len(counts) > 1 else 0.0


def _files_grow(evidence: ProbeEvidence) -> Iterator[Finding]:
    """Of a user's data set; stores and caches keep files open, and not more than they may."""
    if evidence.subject.kind != "factory":
        return
    for outcome in evidence.items:
        if len(outcome.item_files) >= _GROWS_ITEMS and not outcome.failures:
            grown = _files_per_item(outcome, int(outcome.opened.get("files_kept", 0)))
            if grown >= _GROWS:
                n = len(outcome.item_files)
                yield _finding(lk.OPEN_FILES_GROW, _at(outcome), f"{grown:.1f} for each item, over {n} items")
                return


def _is_of_machine(failure: StageFailure) -> bool:
    text = f"{failure.message}\n{failure.traceback}"
    return failure.error == "MemoryError" or bool(
        _OPEN_FILES.search(text) or _MEMORY.search(failure.message) or _SHARED_MEMORY.search(text)
    )


def _items_can_be_read(evidence: ProbeEvidence) -> Iterator[Finding]:
    kind = lk.CACHE_UNREADABLE if evidence.subject.kind == "cache" else lk.ITEM_UNREADABLE
    yield from _failures_of_items(evidence, lambda stage: stage in ("read", "loader"), lambda failure: kind)


def _transforms_fit(evidence: ProbeEvidence) -> Iterator[Finding]:
    def kind(failure: StageFailure) -> Kind:
        return lk.TRANSFORM_CHANNELS if _CHANNELS.search(failure.message) else lk.TRANSFORM_FAILS

    yield from _failures_of_items(
        evidence, lambda stage: stage.startswith(("transform", "data set")), kind, by_stage=True
    )


def _failures_of_items(
    evidence: ProbeEvidence,
    is_stage: Callable[[str], bool],
    kind_of: Callable[[StageFailure], Kind],
    *,
    by_stage: bool = False,
) -> Iterator[Finding]:
    """One finding for each failing stage, or for each failing item, of one process."""
    failures = [
        failure
        for outcome in evidence.items
        for failure in outcome.failures
        if is_stage(failure.stage) and not _is_of_machine(failure)
    ]
    n_fine = sum(outcome.n_items for outcome in evidence.items)
    seen: set[tuple[str, str]] = set()
    for failure in failures:
        same = [one for one in failures if (one.stage, one.error) == (failure.stage, failure.error)]
        about = failure.stage if by_stage else items_text(failure.items)
        if ((failure.stage, failure.error) if by_stage else (about, "")) in seen:
            continue
        seen.add((failure.stage, failure.error) if by_stage else (about, ""))
        many = (
            "at every item" if not n_fine else f"at {len(same)} of {n_fine + len(failures)} items looked at"
        )
        first = f", first at {items_text(failure.items)}" if failure.items and by_stage else ""
        given = f"; given {failure.given}" if failure.given else ""
        line = f"; {failure.line}" if failure.line else ""
        yield _finding(kind_of(failure), about, f"{failure.error} {many}{first}{given}{line}", failure)


def _collates(evidence: ProbeEvidence) -> Iterator[Finding]:
    tried = (*evidence.items, *([evidence.alone] if evidence.alone is not None else []))
    for outcome in tried:
        for failure in outcome.failures:
            if failure.stage != "collate" or _is_of_machine(failure):
                continue
            shapes = list(dict.fromkeys(shape for one in evidence.items for shape in one.shapes.values()))
            pair = evidence.alone.trial.items if evidence.alone is not None else None
            at = f", for instance {items_text(pair)}" if pair else ""
            if len(shapes) > 1:
                told = f"{len(shapes)} shapes among the items looked at: {' | '.join(shapes[:3])}{at}"
                yield _finding(lk.ITEMS_RAGGED, "collate", told, failure)
            else:
                told = f"{failure.error}; given {failure.given}"
                yield _finding(lk.COLLATE_FAILS, "collate", told, failure)
            return


def _values_are_finite(evidence: ProbeEvidence) -> Iterator[Finding]:
    for outcome in evidence.items:
        for stage, items in outcome.not_finite.items():
            if stage == "collate":
                continue
            if stage == "read":
                yield _finding(lk.ITEM_NOT_FINITE, items_text(items), f"{len(items)} of {outcome.n_items}")
            else:
                told = f"{items_text(items)}: {len(items)} of {outcome.n_items} looked at"
                yield _finding(lk.TRANSFORM_NOT_FINITE, stage, told)


def _process_lives(evidence: ProbeEvidence) -> Iterator[Finding]:
    """One process that dies."""
    for outcome in evidence.items:
        if outcome.ended != Ended.DIED or outcome.code == -signal.SIGKILL:
            continue
        items, stage = outcome.where()
        if stage == "factory":
            continue
        told = f"{exit_text(outcome.code or 0)} at {stage or 'an unknown stage'}{_crashed_in(outcome)}"
        kind = lk.CRASH if (outcome.code or 0) in _CRASHES else lk.WORKER_EXITS
        yield _finding(kind, items_text(items) if items else _at(outcome), told)


def _crashed_in(outcome: Outcome) -> str:
    """The innermost Python frame of a crash: `, in string_at (__init__.py:519)`."""
    found = re.search(
        r"most recent call first\):\n\s+File \"([^\"]+)\", line (\d+)(?: in (\S+))?", outcome.stacks
    )
    if found is None:
        return ""
    return f", in {found[3] or 'a call'} ({found[1].rpartition('/')[2]}:{found[2]})"


def _items_are_quick(evidence: ProbeEvidence) -> Iterator[Finding]:
    for outcome in (*([evidence.integrity] if evidence.integrity is not None else []), *evidence.items):
        if outcome.ended == Ended.SILENT:
            items, stage = outcome.where()
            if stage == "factory":
                continue
            seconds = outcome.last.seconds if outcome.last is not None else outcome.trial.silent_s
            about = items_text(items) if items else _at(outcome)
            told = f"{stage}: no end after {seconds:.0f} s{_waits_in(outcome)}"
            yield _finding(lk.ITEM_SILENT, about, told)
        for row in outcome.stages:
            others = (row.mean_s * row.n - row.longest_s) / max(1, row.n - 1)
            first = next(iter(outcome.shapes), None)
            if row.n < 3 or row.longest_item == first or row.longest_s < _SLOW_S:
                continue
            if row.longest_s > _SLOW_TIMES * others:
                told = f"{row.stage} took {row.longest_s:.0f} s, others {others:.2f} s"
                yield _finding(lk.ITEM_SLOW, f"item {row.longest_item}", told)


def _waits_in(outcome: Outcome) -> str:
    """Where the stack says that it waits: the user's innermost line of the main thread."""
    at = outcome.last.pid if outcome.last is not None else 0
    own_stack = outcome.stacks.partition(f"process {at}\n")[2].partition("\n\nprocess ")[0]
    main = own_stack.rpartition("Current thread")[2]
    frames = re.findall(r"File \"([^\"]+)\", line (\d+) in (\S+)", main)
    own = [one for one in frames if "/radiobject_assets/probe/" not in one[0] and "-packages/" not in one[0]]
    own = [one for one in own if "/lib/python" not in one[0] and not one[0].startswith("<")]
    return f", in {own[0][2]} ({own[0][0].rpartition('/')[2]}:{own[0][1]})" if own else ""


def _errors_arrive(evidence: ProbeEvidence) -> Iterator[Finding]:
    """What a worker hands over, errors and batches, comes through."""
    own = evidence.own
    lost = [one for outcome in evidence.outcomes for one in outcome.failures if not one.is_picklable]
    if lost:
        hangs = own is not None and own.ended == Ended.SILENT
        told = f"{lost[0].error} at {lost[0].stage}, {items_text(lost[0].items) if lost[0].items else ''}"
        told += "; the loader hung" if hangs else ""
        yield _finding(lk.ERROR_NOT_PICKLABLE, f"class {lost[0].error}", told, lost[0])
    elif own is not None and _batch_is_lost(own):
        last = own.stderr.strip().splitlines()[-1][:200]
        yield Finding(lk.BATCH_NOT_PICKLABLE, _at(own), "the worker could not pickle it", where=last)


def _batch_is_lost(outcome: Outcome) -> bool:
    """Whether a worker's queue could not pickle what it was given: it says so on stderr and goes on."""
    waits = outcome.ended == Ended.SILENT and not any(one.items for one in outcome.in_flight)
    return waits and "_feed" in outcome.stderr and bool(_PICKLING.search(outcome.stderr))


def _workers_work(evidence: ProbeEvidence) -> Iterator[Finding]:
    """It fails in workers, and in one process it does not."""
    own = evidence.own
    if own is None or own.is_fine or not evidence.items_are_fine or own.ended == Ended.MEMORY:
        return
    if any(_is_of_machine(one) or not one.is_picklable for one in own.failures):
        return
    codes = [one.code for one in own.dead_workers]
    if -signal.SIGKILL in codes or -signal.SIGBUS in codes or _SHARED_MEMORY.search(_text_of(own)):
        return  # memory, /dev/shm
    first = own.failures[0] if own.failures else None
    method = evidence.method
    fine = [name for name, one in evidence.methods.items() if one.is_fine]
    told = own.said()
    about = f"workers, started by {method}"
    is_pickling = first is not None and _PICKLING.search(f"{first.error} {first.message}")
    if is_pickling and not own.n_items and method != "fork":
        yield _finding(lk.NOT_PICKLABLE, about, told, first)
        return
    if method == "fork" and fine:
        threads = own.opened.get("threads", 1)
        also = f"; fine under {' and '.join(fine)}, and in one process"
        if own.ended == Ended.SILENT:
            told += f"; the main process had {threads} threads at the fork{_waits_in(own)}"
            yield _finding(lk.FORK_DEADLOCK, about, told + also)
        else:
            line = f"; {first.line}" if first is not None and first.line else ""
            yield _finding(lk.NOT_FORK_SAFE, about, told + line + also, first)
    elif evidence.one_worker is not None and evidence.one_worker.is_fine:
        line = f"; {first.line}" if first is not None and first.line else ""
        yield _finding(lk.TWO_WORKERS, f"{evidence.workers} workers", told + line, first)
    elif codes and codes[0] in _CRASHES:
        yield _finding(lk.CRASH, about, told + _crashed_in(own))
    elif codes:
        _, stage = own.where()
        before = "; before its first item" if not own.n_items else ""
        yield _finding(lk.WORKER_EXITS, about, f"exit code {codes[0]} at {stage or 'its start'}{before}")
    elif own.ended == Ended.SILENT:
        if not _batch_is_lost(own):
            yield _finding(lk.WORKERS_SILENT, about, told + _waits_in(own))
    else:
        yield _finding(lk.WORKERS_FAIL, about, told, first)


def _workers_read_the_same(evidence: ProbeEvidence) -> Iterator[Finding]:
    own = evidence.own
    if own is None:
        return
    true = {item: crc for outcome in evidence.items for item, crc in outcome.digests.items()}
    wrong = sorted(item for item, crc in own.digests.items() if item in true and true[item] != crc)
    if wrong and any(outcome.digests for outcome in evidence.items):
        told = f"{len(wrong)} of {len(own.digests)} items differ: {items_text(wrong)}"
        yield _finding(lk.WRONG_IN_WORKERS, _at(own), told)


RULES: tuple[LoaderRule, ...] = (
    LoaderRule("can_be_made", "the loader, store or cache can be opened", _can_be_made),
    LoaderRule("has_memory", "no process is killed for memory, or is refused it", _has_memory),
    LoaderRule("has_shared_memory", "batches fit into /dev/shm", _has_shared_memory),
    LoaderRule("has_files", "the limit of open files is not reached", _has_files),
    LoaderRule("is_whole", "what is stored is what was written; files are there", _is_whole),
    LoaderRule("process_lives", "one process comes through alive", _process_lives),
    LoaderRule(
        "items_are_quick", "no item takes longer than the limit, or than the others", _items_are_quick
    ),
    LoaderRule("errors_arrive", "errors and batches can be handed to the main process", _errors_arrive),
    LoaderRule("items_can_be_read", "every item can be read", _items_can_be_read),
    LoaderRule("transforms_fit", "every transform accepts what it is given", _transforms_fit),
    LoaderRule("collates", "items can be put together to batches", _collates),
    LoaderRule("values_are_finite", "no NaN, as read and after each transform", _values_are_finite),
    LoaderRule("workers_work", "workers do what one process does", _workers_work),
    LoaderRule(
        "workers_read_the_same", "workers read the values that one process reads", _workers_read_the_same
    ),
    LoaderRule("files_grow", "items leave no files open", _files_grow),
)
"""Every rule, the likeliest cause first."""


def verdict(evidence: ProbeEvidence) -> Report:
    """What is wrong with the loader, the likeliest cause first; a failure without a rule is one too."""
    findings = [finding for rule in RULES for finding in rule.find(evidence)]
    failed = next((one for one in evidence.outcomes if not one.is_fine and _counts(evidence, one)), None)
    if not findings and failed is not None:
        first = failed.failures[0] if failed.failures else None
        findings = [_finding(lk.UNEXPLAINED, failed.trial.name, failed.said(), first)]
    n_items = max((one.n_items for one in evidence.outcomes), default=0)
    unique = {finding.id: finding for finding in reversed(findings)}
    ordered = [finding for finding in findings if unique.get(finding.id) is finding]
    return Report(n_items, "items", tuple(ordered), _numbers(evidence), _said(evidence))


def _counts(evidence: ProbeEvidence, outcome: Outcome) -> bool:
    """Whether a trial's failure is one of the loader as it is set, not of another way of starting workers."""
    return outcome.trial.mode != Mode.WORKERS or outcome is evidence.own


def _numbers(evidence: ProbeEvidence) -> dict[str, float]:
    peaks = [one.peaks for one in evidence.outcomes]
    return {
        name: max(one.get(name, 0.0) for one in peaks)
        for name in ("memory_mb", "open_files", "shared_memory_mb")
        if peaks
    }


def _said(evidence: ProbeEvidence) -> str:
    told = [f"{one.trial.name}: {one.said()}" for one in evidence.outcomes]
    if evidence.own is None and evidence.opened and evidence.opened.get("workers") == 0:
        told.append("the loader has no workers; with --workers 2 they are tried")
    others = [
        f"under {name} it would fail ({one.said()}), which this loader does not use"
        for name, one in evidence.methods.items()
        if not one.is_fine and evidence.own is not None and evidence.own.is_fine
    ]
    return "; ".join(told + others)
