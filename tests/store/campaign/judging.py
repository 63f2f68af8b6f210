"""What a round's end is compared with, and what kind of failure a difference is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.store.campaign.content import Row
from tests.store.campaign.linear import Done, worlds_after
from tests.store.campaign.model import State, Step, World
from tests.store.campaign.operations import Look
from tests.store.campaign.processes import Child
from tests.store.campaign.reading import Reading, Seen

COUNTERS = (
    "lost", "doubled", "resurrected", "other data", "part of an operation", "snapshots changed", "ids left",
    "stuck", "dead", "views changed",
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """Something that must not be."""

    counter: str
    text: str


@dataclass
class Pinned:
    """What was seen once and may not change: a volume's further columns, a snapshot's digest."""

    kept: dict[str, Row] = field(default_factory=dict)
    digests: dict[str, tuple[str, object]] = field(default_factory=dict)
    """By snapshot: its digest, and the state (as its key) for which it was told."""

    def check(self, reading: Reading) -> list[Failure]:
        """Compare with what was seen before, and keep what is new."""
        found = []
        for title, seen in [("the present", reading.present), *reading.snapshots.items()]:
            for digest, columns in seen.kept.items():
                before = self.kept.setdefault(digest, columns)
                if before != columns:
                    text = f"{title}: a volume's own columns were {sorted(before - columns)}, "
                    found.append(Failure("other data", text + f"now {sorted(columns - before)}"))
            if seen.doubled:
                found.append(Failure("doubled", f"{title}: {seen.doubled[:4]}"))
        states = {name: seen.state.key for name, seen in reading.snapshots.items()}
        for name, digest in reading.digests.items():
            before_digest, state = self.digests.setdefault(name, (digest, states.get(name)))
            if before_digest != digest and state == states.get(name):
                found.append(Failure("snapshots changed", f"{name!r}: another digest of the same state"))
            self.digests[name] = (digest, states.get(name))
        self.digests = {name: told for name, told in self.digests.items() if name in reading.digests}
        by_digest: dict[str, object] = {}
        for digest, state in self.digests.values():
            if by_digest.setdefault(digest, state) != state:
                found.append(Failure("snapshots changed", "two snapshots of other states have one digest"))
        return found


def world_of(reading: Reading) -> World:
    """What was read, as a world of the model."""
    return World(reading.present.state, {name: seen.state for name, seen in reading.snapshots.items()})


def history(child: Child, whole_looks: bool, erased: Sequence[str] = ()) -> list[list[Done]]:
    """What a child did, for `linear`: itself, and its reader's looks as processes beside it.

    Looks leave out who was `erased` meanwhile.
    """
    own, looks = [], []
    for operation, told in zip(child.operations, child.told, strict=False):
        if told.outcome == "done" and isinstance(told.result, Look):
            look = told.result
            steps = (replace(step, names=tuple(erased)) for step in _look_steps(look.seen, whole_looks))
            looks += [[Done((step,), told.began, look.at, "done")] for step in steps]
            continue
        outcome = "done" if told.outcome == "done" else "unknown"
        ended = told.ended if told.outcome == "done" and told.ended is not None else float("inf")
        failed = told.outcome == "error"
        own.append(Done(operation.steps, told.began, ended, outcome, failed))  # type: ignore[arg-type]  # a literal
    return [own, *looks]


def _look_steps(seen: Seen, whole: bool) -> list[Step]:
    state = seen.state
    if whole:
        return [Step("look", "*", seen=state)]
    return [Step("look", seen=state), *(Step("look", name, seen=state) for name in state.collections)]


def explain(
    before: World,
    histories: Sequence[Sequence[Done]],
    seen: World,
    ever: set[str] | None = None,
) -> tuple[World | None, list[Failure]]:
    """The world that the store is in, if some order of what was done leads there; else what is wrong.

    `ever` has the keys (`keys_of`) that the store had at any time: what is there again was resurrected.
    """
    ever = keys_of(before) | (ever or set())
    histories = [h for h in histories if h]
    worlds = []
    for world in worlds_after(before, histories):
        if world.key == seen.key:
            return world, []
        worlds.append(world)
    if worlds:
        return None, _differences(worlds, seen, ever)
    without_looks = [h for h in histories if not any(s.kind == "look" for done in h for s in done.steps)]
    if len(without_looks) < len(histories):
        world, failures = explain(before, without_looks, seen, ever)
        text = "a reader saw what no order of the operations gives"
        return world, [*failures, Failure("views changed", text)]
    done = [step.kind for h in histories for d in h for step in d.steps]
    return None, [Failure("other data", f"operations were told as done that exclude each other: {done}")]


def _differences(worlds: Sequence[World], seen: World, ever: set[str]) -> list[Failure]:
    # Against the world that is nearest: the others tell of operations that were not done.
    nearest = min(worlds, key=lambda world: _distance(world, seen))
    found = _compare("the present", nearest.present, seen.present, ever)
    for name in sorted({*nearest.snapshots, *seen.snapshots}):
        expected, there = nearest.snapshots.get(name), seen.snapshots.get(name)
        if expected is None or there is None:
            found.append(
                Failure("snapshots changed", f"{name!r} is {'gone' if there is None else 'unexpected'}")
            )
            continue
        inner = _compare(name, expected, there, ever)
        found += [replace(failure, counter="snapshots changed") for failure in inner]
    counts = Counter(failure.counter for failure in found)
    if found and set(counts) <= {"lost", "resurrected"} and len(worlds) > 1 and _each_possible(worlds, seen):
        text = "; ".join(failure.text for failure in found[:3])
        found = [Failure("part of an operation", text)]
    return found


def keys_of(world: World) -> set[str]:
    """What the present has: volumes as `<collection>/<obs_id>`, subjects as `subject <id>`."""
    names = {f"{n}/{i}" for n, rows in world.present.collections.items() for i in rows}
    return names | {f"subject {s}" for s in world.present.subjects}


def _flat(state: State) -> dict[str, Row]:
    flat = {f"{name}/{i}": row for name, rows in state.collections.items() for i, row in rows.items()}
    flat |= {f"collection {name}": frozenset() for name in state.collections}
    return flat | {f"subject {subject}": row for subject, row in state.subjects.items()}


def _distance(world: World, seen: World) -> int:
    pairs = [(world.present, seen.present)]
    pairs += [(world.snapshots[n], seen.snapshots[n]) for n in world.snapshots if n in seen.snapshots]
    away = len(world.snapshots.keys() ^ seen.snapshots.keys()) * 3
    return away + sum(len(_flat(a).items() ^ _flat(b).items()) for a, b in pairs)


def _each_possible(worlds: Sequence[World], seen: World) -> bool:
    flats = [_flat(world.present) for world in worlds]
    there = _flat(seen.present)
    keys = {key for flat in flats for key in flat} | set(there)
    return all(there.get(key) in [flat.get(key) for flat in flats] for key in keys)


def _compare(title: str, expected: State, there: State, ever: set[str]) -> list[Failure]:
    want, have = _flat(expected), _flat(there)
    found = []
    for key in sorted(want.keys() | have.keys()):
        if key not in have:
            found.append(Failure("lost", f"{title}: {key} is gone"))
        elif key not in want:
            counter = "resurrected" if key in ever or key.startswith("collection ") else "other data"
            found.append(Failure(counter, f"{title}: {key} is there"))
        elif want[key] != have[key]:
            text = f"{sorted(have[key] - want[key])[:5]} in place of {sorted(want[key] - have[key])[:5]}"
            found.append(Failure("other data", f"{title}: {key} has {text}"))
    return found


def past_failures(expected: State, seen: State) -> list[Failure]:
    """What an earlier moment shows against what was there then, but for who was erased since."""
    found = _compare("an earlier moment", expected, seen, set())
    return [replace(failure, counter="snapshots changed") for failure in found]


def what_readers_said(child: Child, erased: Sequence[str], may_fail: bool) -> list[Failure]:
    """Whether the objects that a reader kept open still showed the same, but for who was erased."""
    found = []
    for told in child.told:
        look = told.result
        if not isinstance(look, Look):
            continue
        if look.error and not may_fail:
            found.append(Failure("views changed", f"{child.name}: read again: {look.error[:300]}"))
        for first, again in zip((look.seen, look.view), look.later, strict=False):
            before, after = first.state.without(erased), again.state.without(erased)
            for failure in _compare("read again", before, after, set()):
                found.append(replace(failure, counter="views changed", text=f"{child.name}: {failure.text}"))
    return found


def summary(counts: Mapping[str, int]) -> str:
    """The counters in one line."""
    return ", ".join(f"{name} {counts.get(name, 0)}" for name in COUNTERS)
