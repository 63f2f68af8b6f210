"""The campaign itself: store after store, round after round, until there were enough kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from radiobject_assets.store import ensure_store
from tests.store.campaign import processes, residue
from tests.store.campaign.disturbances import Disk, Disturbance, draw
from tests.store.campaign.judging import (
    Failure,
    Pinned,
    explain,
    history,
    keys_of,
    past_failures,
    summary,
    what_readers_said,
    world_of,
)
from tests.store.campaign.model import EMPTY, State
from tests.store.campaign.processes import Child
from tests.store.campaign.programs import Draw, Drawn
from tests.store.campaign.reading import Reading
from tests.store.campaign.remote import Remote
from tests.store.campaign.worker import Setting

_HANG_S = 100.0
# So many failures say enough.
_ENOUGH = 20
_TYPICAL_S = 0.25
_ROUNDS_OF_A_STORE = (8, 12, 20, 45)


@dataclass
class Result:
    """What a campaign counted."""

    seed: int
    rounds: int = 0
    kills: int = 0
    stores: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    disturbances: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, Failure]] = field(default_factory=list)
    """With the store and round of each."""
    refused: Counter[str] = field(default_factory=Counter)
    """Errors of undisturbed operations beside others at work: told, without effect on what is stored."""
    past_read: int = 0
    """Moments of the past that were compared."""
    past_gone: int = 0
    """Moments of the past that could not be read any more, as after a vacuum."""
    left_until_next: int = 0
    """Times that bytes of the erased stayed until the next erasing, beside a process that was disturbed."""

    @property
    def counts(self) -> Counter[str]:
        """Failures by counter."""
        return Counter(failure.counter for _, failure in self.failures)


class Campaign:
    """Runs rounds on stores of its own."""

    def __init__(
        self,
        seed: int,
        place: Disk,
        journal: Path,
        remote: Remote | None = None,
        whole_looks: bool = False,
        keep: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.rng = random.Random(seed)
        self.result = Result(seed)
        self.place = place
        self.remote = remote
        self._whole_looks = whole_looks
        self._keep = keep
        self._say = say
        self._journal = journal.open("a")
        self._number = 0
        self._start = time.monotonic()
        processes.warm_up()

    # -- the course ---------------------------------------------------------------------------------

    def run(self, kills: int, seconds: float = float("inf")) -> Result:
        """Go on until so many processes were killed, or the time is over."""
        until = time.monotonic() + seconds
        while self.result.kills < kills and time.monotonic() < until and len(self.result.failures) < _ENOUGH:
            self._one_store(kills, until)
        return self.result

    def _one_store(self, kills: int, until: float) -> None:
        self.result.stores += 1
        self._folder = self.place.folder / f"store{self.result.stores}"
        self._folder.mkdir(mode=0o777)
        self._uri = self.remote.new_uri() if self.remote else str(self._folder / "store")
        if self.remote is None:
            ensure_store(self._uri)
        else:
            ensure_store(self._uri, self.remote.ctx())
        self._world, self._pinned, self._ever = EMPTY, Pinned(), set[str]()
        self._past: dict[int, State] = {}
        self._moment: int | None = None
        self._erasures: set[str] = set()
        self._draw = Draw(self.rng, str(self._folder), self.remote is not None)
        self._tell("store", seed=self.result.seed, number=self.result.stores, uri=self._uri)
        good = self._round(self._draw.first(), [])
        rounds = self.rng.choice(_ROUNDS_OF_A_STORE)
        for _ in range(rounds):
            if not good or self.result.kills >= kills or time.monotonic() > until:
                break
            good = self._disturbed_round()
        if good:
            good = self._round(self._draw.probe(self._world, thorough=True), [])
        if not good and self._keep is not None and self.remote is None:
            shutil.copytree(self._uri, self._keep / f"store{self.result.stores}", dirs_exist_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _disturbed_round(self) -> bool:
        drawn = self._draw.round(self._world)
        if not drawn.programs:
            return True
        disturbances = [Disturbance("none")] * len(drawn.programs)
        writing = [n for n, program in enumerate(drawn.programs) if program[0].kind != "read"]
        chosen = writing if writing and self.rng.random() < 0.9 else range(len(drawn.programs))
        victims = self.rng.sample(chosen, 2 if len(chosen) > 1 and self.rng.random() < 0.5 else 1)
        for victim in victims:
            typical_s = _TYPICAL_S * (4 if self.remote else 1) * len(drawn.programs)
            disturbances[victim] = draw(self.rng, self.remote is not None, typical_s)
        good = self._round(drawn, disturbances)
        again = drawn.contested
        if any(told.outcome != "done" for told in self._told_of("erase")):
            again += drawn.erased
        if good and (again or self.rng.random() < 0.25):
            good = self._round(self._draw.probe(self._world, again), [])
        return good

    def _told_of(self, kind: str) -> list[processes.Told]:
        return [
            told
            for child in self._children
            for operation, told in zip(child.operations, child.told, strict=False)
            if operation.kind == kind
        ]

    # -- one round ----------------------------------------------------------------------------------

    def _round(self, drawn: Drawn, disturbances: Sequence[Disturbance]) -> bool:
        """Run the programs, disturbed, then compare everything; False after a failure."""
        self._number += 1
        self.result.rounds += 1
        disturbances = disturbances or [Disturbance("none")] * len(drawn.programs)
        self.result.disturbances.update(d.kind for d in disturbances)
        self._tell(
            "round", number=self._number, title=drawn.title, disturbances=[str(d) for d in disturbances]
        )
        self._children = self._run(drawn, disturbances)
        failures = self._judge(drawn, disturbances)
        for child in self._children:
            child.close()
        for failure in failures:
            self.result.failures.append((f"store {self.result.stores}, round {self._number}", failure))
            self._tell("FAILURE", counter=failure.counter, text=failure.text)
            self._say(
                f"  FAILURE in round {self._number} ({drawn.title}): {failure.counter}: {failure.text[:600]}"
            )
        return not failures

    def _run(self, drawn: Drawn, disturbances: Sequence[Disturbance]) -> list[Child]:
        for disturbance in disturbances:
            if disturbance.kind == "full disk" and not self.place.fill(int(disturbance.amount)):
                self._tell("note", text="no disk of the campaign's own here: nothing was filled")
            if self.remote is not None and disturbance.kind.startswith("s3"):
                self.remote.disturb(disturbance)
        children = []
        for number, (program, disturbance) in enumerate(zip(drawn.programs, disturbances, strict=True)):
            clock, setting = None, self._setting(disturbance)
            if disturbance.kind == "clock":
                clock = f"{disturbance.amount:+.0f}s" if processes.faketime_library() else None
                if clock is None:
                    setting = replace(setting, clock_s=disturbance.amount)
            children.append(processes.start(f"p{number}", setting, program, clock))
        self._watch(children, disturbances)
        self.place.relieve()
        if self.remote is not None:
            self.remote.heal()
        for child in children:
            self._write_lines(child.hear())
        return children

    def _setting(self, disturbance: Disturbance | None = None) -> Setting:
        kind = disturbance.kind if disturbance else "none"
        amount = int(disturbance.amount) if disturbance else 0
        remote = self.remote
        return Setting(
            uri=self._uri,
            errors=str(self.place.folder / "errors"),
            endpoint=remote.endpoint if remote else None,
            keys=remote.keys if remote else None,
            deadline_s=15.0 if remote else 60.0,
            kill_at_file=amount if kind == "kill at a file" else None,
            descriptors=amount + len(os.listdir("/proc/self/fd")) if kind == "few descriptors" else None,
            file_bytes=amount if kind == "quota" else None,
            may_write=kind != "read-only",
        )

    def _watch(self, children: Sequence[Child], disturbances: Sequence[Disturbance]) -> None:
        """Listen until all are through; kill and stop at the moments that were drawn."""
        due = dict(enumerate(disturbances))
        hang = time.monotonic() + _HANG_S
        while True:
            now = time.monotonic()
            times = []
            for number, disturbance in list(due.items()):
                child = children[number]
                if disturbance.kind not in ("kill", "stop") or child.finished or child.gone:
                    del due[number]
                    continue
                begun = child.told[0].began if child.told else None
                if disturbance.late and not child.notes and len(child.told) < 2:
                    begun = None
                elif disturbance.late:
                    begun = self._late.get(number, now)
                    self._late.setdefault(number, now)
                if begun is None:
                    continue
                if now >= begun + disturbance.amount:
                    child.signal(signal.SIGKILL if disturbance.kind == "kill" else signal.SIGSTOP)
                    self._tell("signal", child=child.name, sent=disturbance.kind)
                    del due[number]
                else:
                    times.append(begun + disturbance.amount)
            at_work = [c for c in children if not c.finished and not c.gone]
            if not at_work:
                return
            if all(c.stopped for c in at_work):
                # Longer than anybody waits for a lock: until all others are through.
                for child in at_work:
                    child.signal(signal.SIGCONT)
                    self._tell("signal", child=child.name, sent="continue")
            if now > hang:
                self._hung(at_work)
                return
            self._write_lines(processes.listen(at_work, min([0.5, *(t - now for t in times)])))

    def _hung(self, children: Sequence[Child]) -> None:
        for child in children:
            child.signal(signal.SIGUSR1)
        time.sleep(1.0)
        for child in children:
            child.signal(signal.SIGKILL)
            self._hangs.append(child.name)

    # -- judging ------------------------------------------------------------------------------------

    def _judge(self, drawn: Drawn, disturbances: Sequence[Disturbance]) -> list[Failure]:
        failures = [Failure("stuck", f"{name} hung: {self._errors()}") for name in self._hangs]
        quiet = all(d.kind == "none" for d in disturbances)
        alone = len(self._children) == 1
        removing = any(o.kind in ("erase", "vacuum") for c in self._children for o in c.operations)
        erased = [
            n for c in self._children for o in c.operations if o.kind == "erase" for n in o.what["subjects"]
        ]
        for child, disturbance in zip(self._children, disturbances, strict=True):
            failures += self._judge_child(child, disturbance, quiet and alone)
            failures += what_readers_said(child, erased, may_fail=removing or not quiet)
        reading, told = self._observe()
        if reading is None:
            return [*failures, *told]
        seen = world_of(reading)
        histories = [h for child in self._children for h in history(child, self._whole_looks, erased)]
        world, wrong = explain(self._world, histories, seen, self._ever)
        failures += [*wrong, *self._pinned.check(reading)]
        self._erasures |= {*drawn.erased, *drawn.contested}  # done or not: the past has them or has not
        if reading.past is not None and self._moment is not None:
            self.result.past_read += 1
            failures += past_failures(
                self._past[self._moment].without(self._erasures), reading.past.without(self._erasures)
            )
        elif reading.past_error:
            del self._past[self._moment or 0]
            self.result.past_gone += 1
        self._world = world or seen
        self._ever |= keys_of(self._world)
        self._past[time.time_ns() // 1_000_000 + 1] = self._world.present
        time.sleep(0.003)  # the next commit is stamped later
        if not failures and not drawn.contested:
            failures += self._search(quiet and alone)
        return failures

    def _judge_child(self, child: Child, disturbance: Disturbance, must_work: bool) -> list[Failure]:
        failures = []
        ended_by = None if child.finished else child.ended_by()
        meant = child.killed or disturbance.kind == "kill at a file"
        if ended_by == signal.SIGKILL and meant:
            self.result.kills += 1
        elif not child.finished and child.name not in self._hangs and not (child.killed and ended_by is None):
            failures.append(Failure("dead", f"{child.name} ended by signal {ended_by}: {self._errors()}"))
        for operation, told in zip(child.operations, child.told, strict=False):
            self.result.operations[f"{operation.kind}: {told.outcome}"] += 1
            if told.outcome == "done" and operation.kind == "verify" and told.result:
                failures.append(Failure("other data", f"verify found {told.result[:3]}"))
            if told.error is None or self._may_be_refused(operation.kind, told.error[0]):
                continue
            names, text, trace = told.error
            if "RadiObjectError" not in names and disturbance.kind == "none":
                text = f"(no error of the library's own) {text}"
            if must_work:
                failures.append(Failure("stuck", f"{operation}: {names[0]}: {text[:400]}\n{trace[-1500:]}"))
            elif disturbance.kind == "none":
                self.result.refused[f"{operation.kind}: {names[0]}: {text[:90]}"] += 1
        return failures

    def _may_be_refused(self, kind: str, names: Sequence[str]) -> bool:
        """Errors that say that the question does not fit the state, which others may have changed."""
        if kind == "snapshot":
            return True  # its name may be taken by another state
        return len(self._children) > 1 and ("KeyError" in names or "SchemaError" in names)

    def _observe(self) -> tuple[Reading | None, list[Failure]]:
        if any(child.clock for child in self._children):
            self._past.clear()  # what they commit may be stamped before
        self._moment = self.rng.choice(sorted(self._past)) if self._past else None
        child = processes.start_observer(replace(self._setting(), moment=self._moment))
        until = time.monotonic() + _HANG_S
        while not child.finished and not child.gone and time.monotonic() < until:
            processes.listen([child], 1.0)
        told = child.told[0] if child.told else None
        ended_by = child.ended_by() if not child.finished else None
        child.close()
        if told is not None and told.outcome == "done":
            return told.result, []
        if told is not None and told.error is not None:
            return None, [Failure("lost", f"cannot be read: {told.error[1][:400]}\n{told.error[2][-1500:]}")]
        counter = "dead" if ended_by else "stuck"
        return None, [Failure(counter, f"reading ended by signal {ended_by}: {self._errors()}")]

    def _search(self, strict: bool) -> list[Failure]:
        """Look for bytes of the erased, once all of their erasing is through."""
        erasing = self._told_of("erase")
        if not erasing or any(told.outcome != "done" for told in erasing):
            return []
        left = self._left()
        if left and not strict:
            self.result.left_until_next += 1
            again = self._draw.probe(self._world, tuple(self._draw.erased))
            self._tell("note", text=f"left beside a disturbed process: {list(left)[:3]}")
            return (
                []
                if self._round(again, [])
                else [Failure("ids left", "and the next erasing failed, see above")]
            )
        return [
            Failure("ids left", f"{name}: {sorted(set(needles))[:3]}")
            for name, needles in list(left.items())[:3]
        ]

    def _left(self) -> dict[str, list[bytes]]:
        needles = {n for person in self._draw.erased.values() for n in person.needles}
        if self.remote is not None:
            return residue.find(self.remote.files(self._uri), needles)
        folder = Path(self._uri)
        return residue.find([*residue.local_files(folder), *residue.local_arrays(folder)], needles)

    # -- the journal --------------------------------------------------------------------------------

    _late: dict[int, float]
    _hangs: list[str]

    def _tell(self, what: str, **values: object) -> None:
        if what == "round":
            self._late, self._hangs = {}, []
        self._write_lines([json.dumps({"what": what, **values}, ensure_ascii=False, default=str)])

    def _write_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._journal.write(f"{time.monotonic() - self._start:8.3f} {line}\n")
        if lines:
            self._journal.flush()
            os.fsync(self._journal.fileno())

    def _errors(self) -> str:
        path = self.place.folder / "errors"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""


def report(result: Result) -> str:
    """What a campaign counted, as text."""
    lines = [
        f"seed {result.seed}: {result.kills} kills in {result.rounds} rounds on {result.stores} stores",
        f"  {summary(result.counts)}",
        f"  moments of the past: {result.past_read} compared, {result.past_gone} gone (vacuumed)",
        f"  bytes of the erased that stayed until the next erasing: {result.left_until_next}",
        "  operations: " + ", ".join(f"{name} {count}" for name, count in sorted(result.operations.items())),
        "  disturbances: " + ", ".join(f"{n} {c}" for n, c in result.disturbances.most_common()),
    ]
    if result.refused:
        lines.append("  refused beside others at work:")
        lines += [f"    {count} x {text}" for text, count in result.refused.most_common(12)]
    return "\n".join(lines)
