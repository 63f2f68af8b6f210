"""The truth in plain Python: what a store holds, and what each operation makes of it.

A state is two mappings: the present, and the named snapshots. An operation is a list of steps, each of which
the store takes whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from tests.store.campaign.content import Row

Table = Mapping[str, Row]


@dataclass(frozen=True)
class State:
    """A store at one moment: rows of subjects by id, and of volumes by collection and id."""

    subjects: Table
    collections: Mapping[str, Table]

    @cached_property
    def key(self) -> object:
        """Hashable, and equal exactly for equal states."""
        tables = ((name, frozenset(rows.items())) for name, rows in self.collections.items())
        return frozenset(self.subjects.items()), frozenset(tables)

    def without(self, erased: Iterable[str]) -> State:
        """The state as if these subjects had never been."""
        gone = set(erased)
        owners = {("obs_subject_id", f"text {subject}") for subject in gone}
        return State(
            {subject: row for subject, row in self.subjects.items() if subject not in gone},
            {
                name: {obs_id: row for obs_id, row in rows.items() if not owners & row}
                for name, rows in self.collections.items()
            },
        )


@dataclass(frozen=True)
class World:
    """All that a store must give back: the present and every named snapshot."""

    present: State
    snapshots: Mapping[str, State]

    @cached_property
    def key(self) -> object:
        """Hashable, and equal exactly for equal worlds."""
        return self.present.key, frozenset((name, state.key) for name, state in self.snapshots.items())


EMPTY = World(State({}, {}), {})


@dataclass(frozen=True)
class Step:
    """What one atomic change does, in the words of the model."""

    kind: Literal[
        "put rows", "delete rows", "change rows", "put subjects", "change subjects", "delete subjects",
        "drop subject column", "make collection", "rename", "snapshot", "erase", "look",
    ]  # fmt: skip
    where: str = ""
    rows: Mapping[str, Row] | None = None
    """New rows, or for a change the columns that it sets."""
    cleared: frozenset[str] = frozenset()
    """Columns that a change leaves without a value."""
    names: tuple[str, ...] = ()
    seen: State | None = None
    """Of a look: what was read."""
    or_first: bool = False
    """Whether an error, which no kill is, may leave the first of these rows in one step: a writer commits
    what it has when its block ends."""


def _merged(old: Row, step: Step, new: Row) -> Row:
    named = {name for name, _ in new} | step.cleared
    return frozenset({(name, text) for name, text in old if name not in named} | new)


def apply(world: World, step: Step) -> World | None:
    """The world after a step; None where the step cannot have been done in this world."""
    present, rows = world.present, step.rows or {}
    table = dict(present.collections.get(step.where, {}))
    match step.kind:
        case "put rows":
            return _with_table(world, step.where, {**table, **rows})
        case "delete rows":
            left = {obs_id: row for obs_id, row in table.items() if obs_id not in step.names}
            return _with_table(world, step.where, left)
        case "change rows":
            changed = {i: _merged(table[i], step, new) for i, new in rows.items() if i in table}
            return _with_table(world, step.where, {**table, **changed})
        case "put subjects":
            new = {s: row for s, row in rows.items() if s not in present.subjects}
            return _with_subjects(world, {**present.subjects, **new})
        case "change subjects":
            old = present.subjects
            new = {s: _merged(old.get(s, frozenset()), step, row) for s, row in rows.items()}
            return _with_subjects(world, {**old, **new})
        case "delete subjects":
            condition = ("mark", step.names[0])
            return _with_subjects(world, {s: r for s, r in present.subjects.items() if condition not in r})
        case "drop subject column":
            stripped = {
                s: frozenset((n, t) for n, t in r if n not in step.names) for s, r in present.subjects.items()
            }
            return _with_subjects(world, stripped)
        case "make collection":
            return _with_table(world, step.where, table)
        case "rename":
            old_name, new_name = step.names
            if old_name not in present.collections or new_name in present.collections:
                return None
            names = {new_name if n == old_name else n: t for n, t in present.collections.items()}
            return replace(world, present=replace(present, collections=names))
        case "snapshot":
            if step.where in world.snapshots and world.snapshots[step.where].key != present.key:
                return None
            return replace(world, snapshots={**world.snapshots, step.where: present})
        case "erase":
            snapshots = {name: state.without(step.names) for name, state in world.snapshots.items()}
            return World(present.without(step.names), snapshots)
        case "look":
            return world if step.seen is not None and _same_part(present, step) else None


def _same_part(present: State, step: Step) -> bool:
    """Whether a reader's look fits: at all (`*`), at the subjects (no name), or at one collection."""
    assert step.seen is not None
    if step.names:  # who is erased meanwhile vanishes from one table after the other, also for who reads
        present, step = present.without(step.names), replace(step, seen=step.seen.without(step.names))
        assert step.seen is not None
    if step.where == "*":
        return present.key == step.seen.key
    if not step.where:
        return dict(present.subjects) == dict(step.seen.subjects)
    return present.collections.get(step.where) == step.seen.collections.get(step.where)


def _with_table(world: World, name: str, table: Table) -> World:
    collections = {**world.present.collections, name: table}
    return replace(world, present=replace(world.present, collections=collections))


def _with_subjects(world: World, subjects: Table) -> World:
    return replace(world, present=replace(world.present, subjects=subjects))
