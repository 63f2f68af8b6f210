"""Files of a store damaged one at a time: right data or a told error, never other data in silence.

A store with all that a store can have is built, and beside it an earlier copy of it and a second store of the
same make. Each damage is a bit, a page, an end or the whole of one file; or a file of the same kind copied
over it. A child then reads everything and lets the store check itself. Kinds of files are told by their
paths alone, with numbers and tokens left out.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from radiobject_assets.store import ensure_store
from tests.store.campaign import operations as do, processes
from tests.store.campaign.content import VolumeSpec
from tests.store.campaign.operations import Operation
from tests.store.campaign.questions import Answers, Plan
from tests.store.campaign.worker import Setting

_HANG_S = 90.0
_PAGE = 4096
# So many failures say enough.
_ENOUGH = 30
HOW = ("flip", "flip", "truncate", "remove", "zero", "copy over", "copy over")


@dataclass(frozen=True)
class Damage:
    """What is done to one file."""

    path: str
    """Below the store."""
    how: str
    content: bytes | None
    """What the file holds then; None where it is gone."""
    detail: str

    def __str__(self) -> str:
        return f"{self.how} of {self.path} ({self.detail})"


@dataclass
class Tally:
    """What came of the damages."""

    seed: int
    damages: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    failures: list[str] = field(default_factory=list)
    raw: Counter[str] = field(default_factory=Counter)
    unseen: list[str] = field(default_factory=list)


def campaign(
    seed: int, count: int, folder: Path, say: Callable[[str], None], seconds: float = float("inf")
) -> bool:
    """Damage `count` files; True where nothing was returned that is not so."""
    processes.warm_up()
    rng = random.Random(seed)
    stores = Stores.build(rng, folder)
    tally = Tally(seed)
    until = time.monotonic() + seconds
    plan, truth = stores.truth()
    for _ in range(count):
        if time.monotonic() > until or len(tally.failures) >= _ENOUGH:
            break
        damage = stores.draw(rng)
        outcome, detail = _try(stores, damage, plan, truth)
        if outcome == "unseen":
            outcome = _unseen(stores, damage, plan, truth)
        tally.damages[damage.how] += 1
        tally.outcomes[outcome] += 1
        tally.by_kind[kind_of(damage.path)][outcome] += 1
        if outcome.startswith(("WRONG", "MISSED")):
            tally.failures.append(f"{outcome}: {damage}: {detail}")
            say(f"  FAILURE {tally.failures[-1][:700]}")
        if outcome == "told raw":
            tally.raw[f"{kind_of(damage.path)}: {detail[:160]}"] += 1
    say(report(tally))
    return not tally.failures


def kind_of(path: str) -> str:
    """What files of one kind have in common."""
    return re.sub(r"(?<![a-z])[0-9a-f]{8,}|\d+", "*", path)


def report(tally: Tally) -> str:
    """The counts as text."""
    lines = [
        f"seed {tally.seed}: {sum(tally.damages.values())} damages: {dict(tally.damages)}",
        f"  outcomes: {dict(tally.outcomes)}",
    ]
    for kind, outcomes in sorted(tally.by_kind.items()):
        lines.append(f"    {kind}: {dict(outcomes)}")
    lines += [
        f"  no error of the library's own: {count} x {text}" for text, count in tally.raw.most_common(9)
    ]
    lines += [f"  {text[:500]}" for text in tally.failures[:40]]
    if tally.failures:
        again = f"--seed {tally.seed} --damage {sum(tally.damages.values())}"
        lines.append(f"again: python -m tests.store.campaign {again}")
    return "\n".join(lines)


class Stores:
    """The store that is damaged, and those that files are copied over from."""

    def __init__(self, store: Path, others: Sequence[Path], errors: Path) -> None:
        self.store = store
        self._others = others
        self._errors = str(errors)
        self._files = {str(p.relative_to(store)): p for p in sorted(store.rglob("*")) if p.is_file()}
        self._kinds: dict[str, list[str]] = defaultdict(list)
        for path in self._files:
            self._kinds[kind_of(path)].append(path)

    @classmethod
    def build(cls, rng: random.Random, folder: Path) -> Stores:
        """Build them."""
        errors = folder / "errors"
        store, earlier, second = (folder / name / "store" for name in ("damaged", "earlier", "second"))
        specs = Builder(rng, "a")
        _perform(store, specs.first(), errors)
        shutil.copytree(store, earlier)
        _perform(store, specs.second(), errors)
        other = Builder(rng, "b")
        _perform(second, [*other.first(), *other.second()], errors)
        return cls(store, [earlier, second], errors)

    def truth(self) -> tuple[Plan, Answers]:
        """What there is to ask, and the right answers.

        Raises
        ------
        RuntimeError
            If the sound store does not answer, or finds something wrong with itself.
        """
        plan, _ = self.ask(None)
        if not isinstance(plan, Plan):
            raise RuntimeError(f"the sound store cannot be read: {Path(self._errors).read_text()[-2000:]}")
        answers, died = self.ask(plan)
        if not isinstance(answers, Answers) or answers.told or answers.raw or answers.verify:
            raise RuntimeError(f"the sound store does not answer: {died} {answers}")
        return plan, answers

    def ask(self, plan: Plan | None) -> tuple[Plan | Answers | None, str]:
        """Ask a fresh process; None with the reason where it ended or hung."""
        child = processes.start_asking(Setting(str(self.store), self._errors), plan)
        until = time.monotonic() + _HANG_S
        while not child.finished and not child.gone and time.monotonic() < until:
            processes.listen([child], 1.0)
        done = child.finished and child.told and child.told[0].outcome == "done"
        result = child.told[0].result if done else None
        ended_by = None if done else child.ended_by()
        hung = not done and not child.gone
        child.close()
        return result, "it hung" if hung else f"it ended by signal {ended_by}"

    def draw(self, rng: random.Random) -> Damage:
        """A damage: every kind of file has its turn, and files that are many more of them."""
        if rng.random() < 0.6:
            path = rng.choice(self._kinds[rng.choice(sorted(self._kinds))])
        else:
            path = rng.choice(sorted(self._files))
        content = self._files[path].read_bytes()
        how = rng.choice(HOW)
        match how:
            case "remove":
                return Damage(path, how, None, f"{len(content)} bytes")
            case "flip" if content:
                place, bit = rng.randrange(len(content)), rng.randrange(8)
                damaged = bytearray(content)
                damaged[place] ^= 1 << bit
                return Damage(path, how, bytes(damaged), f"byte {place} of {len(content)}, bit {bit}")
            case "truncate" if content:
                left = rng.choice([0, rng.randrange(len(content)), len(content) - 1])
                return Damage(path, how, content[:left], f"{left} of {len(content)} bytes left")
            case "zero" if any(content):
                start = rng.randrange(0, len(content), min(_PAGE, 64))
                size = min(rng.choice([64, 512, _PAGE]), len(content) - start)
                damaged = content[:start] + bytes(size) + content[start + size :]
                return Damage(path, how, damaged, f"{size} bytes from {start} of {len(content)}")
            case "copy over":
                return self._copied_over(rng, path, content)
        return self.draw(rng)

    def _copied_over(self, rng: random.Random, path: str, content: bytes) -> Damage:
        kind = kind_of(path)
        places = [self._files[p] for p in self._kinds[kind] if p != path]
        for other in self._others:
            same = other / path
            found = [
                p
                for p in sorted(other.rglob("*"))
                if p.is_file() and kind_of(str(p.relative_to(other))) == kind
            ]
            places += [same] * 3 if same.is_file() else []
            places += rng.sample(found, min(2, len(found)))
        rng.shuffle(places)
        for place in places:
            if place.read_bytes() != content:
                return Damage(path, "copy over", place.read_bytes(), f"from {place}")
        return self.draw(rng)

    def apply(self, damage: Damage) -> Callable[[], None]:
        """Do it; returns what takes it back."""
        file = self._files[damage.path]
        content, times = file.read_bytes(), file.stat()

        def restore() -> None:
            file.write_bytes(content)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

        if damage.content is None:
            file.unlink()
        else:
            file.write_bytes(damage.content)
        return restore


def _try(stores: Stores, damage: Damage, plan: Plan, truth: Answers) -> tuple[str, str]:
    restore = stores.apply(damage)
    try:
        answers, died = stores.ask(plan)
    finally:
        restore()
    if not isinstance(answers, Answers):
        return "WRONG: no answer", died
    wrong = [name for name, value in answers.values.items() if value != truth.values[name]]
    if wrong:
        return "WRONG: other data", f"{wrong[:4]} of {len(wrong)}; verify: {answers.verify[:2]}"
    if answers.told or answers.raw:
        told = list(answers.told.items())[:1] or list(answers.raw.items())[:1]
        if not answers.verify:
            return "MISSED by verify", f"{told}"
        return ("told raw", str(next(iter(answers.raw.items())))) if answers.raw else ("told", str(told))
    return ("found by verify", answers.verify[0]) if answers.verify else ("unseen", "")


def _unseen(stores: Stores, damage: Damage, plan: Plan, truth: Answers) -> str:
    """Nobody noticed: harmless where nobody reads the file at all, also when it is gone or nonsense.

    So it is where a file is as it was earlier, with which all is read as it is now: a short cut that a killed
    writer did not bring up to date looks the same.
    """
    if damage.how == "copy over" and damage.detail.endswith(f"earlier/store/{damage.path}"):
        return "as it was earlier, and all is right"
    for content in (None, b"\x93 nonsense \x07" * 20):
        outcome, _ = _try(stores, Damage(damage.path, "check", content, ""), plan, truth)
        if outcome != "unseen":
            return "MISSED: unseen in a file that is read"
    return "of a file that nobody reads"


class Builder:
    """What goes into a store of the damage campaign."""

    def __init__(self, rng: random.Random, prefix: str) -> None:
        self._rng = rng
        self._prefix = prefix
        self._seed = rng.randrange(1 << 40)
        self._people = [f"{prefix}-sub{n}" for n in range(5)]

    def _spec(self, where: str, person: int, **attributes: str) -> VolumeSpec:
        self._seed += 1
        rng, subject = self._rng, self._people[person]
        shape = [(6, 5, 4), (70, 66, 3), (5, 4, 3, 2), (40, 40, 36), (4, 4, 4)][person]
        dtype = ["int16", "uint8", "float32", "uint16", "int32"][person]
        free = {
            "modality": ["CT", "MR"][person % 2],
            "series_uid": f"2.25.{rng.randrange(10**29, 10**30)}",
            "grade": rng.choice([person, f"grade {person}", person / 8]),
            "dose": rng.randrange(2, 50) / 8,
        }
        slope = 2.0 if person == 0 else 1.0
        return VolumeSpec(
            subject, f"{subject}_{where}", self._seed, shape, dtype, slope, 0.0, {**free, **attributes}
        )

    def first(self) -> list[Operation]:
        """The first half of the store's life."""
        ages = [self._rng.randrange(20, 90) for _ in self._people]
        return [
            do.update_subjects(self._people, {"age": ages}),
            do.append("ct", [self._spec("ct", n) for n in range(3)]),
            do.append(
                "seg",
                [self._spec("seg", n, kind="labels", labels_of=f"{self._people[n]}_ct") for n in range(2)],
            ),
            do.update_subjects(self._people[:2], {"site": ["north", "south"]}),
            do.snapshot("first"),
        ]

    def second(self) -> list[Operation]:
        """Replaced and deleted volumes, an erased subject, a merge, another name, and more commits."""
        return [
            do.append("ct", [self._spec("ct", 0), self._spec("ct", 3)]),
            do.append("t1", [self._spec("t1", n) for n in (1, 4)]),
            do.delete("ct", [f"{self._people[1]}_ct"]),
            do.update_obs("ct", {f"{self._people[2]}_ct": self._people[2]}, {"dose": [7.25]}),
            do.snapshot("second"),
            do.erase([self._people[4]]),
            do.tidy("consolidate"),
            do.tidy("vacuum"),
            do.rename("t1", "weighted"),
            do.append("ct", [self._spec("ct", 1)]),
            do.update_subjects(self._people[:1], {"age": [33]}),
        ]


def _perform(store: Path, program: Sequence[Operation], errors: Path) -> None:
    store.parent.mkdir(exist_ok=True)
    ensure_store(str(store))
    child = processes.start("builder", Setting(str(store), str(errors)), program)
    while not child.finished and not child.gone:
        processes.listen([child], 1.0)
    failed = [told.error for told in child.told if told.outcome != "done"]
    child.close()
    if failed or len(child.told) < len(program):
        raise RuntimeError(f"the store could not be built: {failed}")
