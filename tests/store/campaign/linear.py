"""Is there an order of the operations that explains what the store shows?

Each process does one operation after another; an operation that was told done before another began comes
first. One that was cut short (killed, or an error that leaves it open) may have taken effect at any later
moment, up to any of its steps, or not at all; one that was refused did nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from tests.store.campaign.model import Step, World, apply

Outcome = Literal["done", "refused", "unknown"]
_FOREVER = float("inf")
# More worlds than this were never met; the bound keeps a mistake of the harness from taking all memory.
_MOST = 400_000


@dataclass(frozen=True)
class Done:
    """An operation as it went: when it began and ended, and what came of it."""

    steps: tuple[Step, ...]
    began: float
    ended: float
    outcome: Outcome
    failed: bool = False
    """An error ended it, no kill."""


@dataclass(frozen=True)
class _Place:
    """How far one process is: the operation, and the step within it."""

    operation: int = 0
    step: int = 0


def worlds_after(start: World, processes: Sequence[Sequence[Done]]) -> Iterator[World]:
    """Every world that some order of the operations leads to, each once."""
    first = (start, tuple(_Place() for _ in processes))
    seen = {(start.key, first[1])}
    stack = [first]
    found: set[object] = set()
    while stack:
        world, places = stack.pop()
        if all(place.operation == len(p) for place, p in zip(places, processes, strict=True)):
            key = world.key
            if key not in found:
                found.add(key)
                yield world
            continue
        for reached in _moves(world, places, processes):
            mark = (reached[0].key, reached[1])
            if mark not in seen:
                seen.add(mark)
                stack.append(reached)
        if len(seen) > _MOST:
            raise RuntimeError("the round has too many orders to look through: make its programs shorter")


def _moves(
    world: World, places: tuple[_Place, ...], processes: Sequence[Sequence[Done]]
) -> Iterator[tuple[World, tuple[_Place, ...]]]:
    ends = [
        process[place.operation].ended
        if place.operation < len(process) and process[place.operation].outcome == "done"
        else _FOREVER
        for place, process in zip(places, processes, strict=True)
    ]
    for number, (place, process) in enumerate(zip(places, processes, strict=True)):
        if place.operation == len(process):
            continue
        operation = process[place.operation]
        left = operation.steps[place.step :]

        def at(new: _Place, number: int = number) -> tuple[_Place, ...]:
            return (*places[:number], new, *places[number + 1 :])

        after = _Place(place.operation + 1)
        if operation.outcome != "done" or not left:
            yield world, at(after)
        others = (end for i, end in enumerate(ends) if i != number)
        if left and operation.outcome != "refused" and operation.began <= min(others, default=_FOREVER):
            following = at(_Place(place.operation, place.step + 1) if len(left) > 1 else after)
            for step in _forms(left[0]) if operation.failed else left[:1]:
                changed = apply(world, step)
                if changed is not None:
                    yield changed, following


def _forms(step: Step) -> Iterator[Step]:
    """A step as it may have been taken when an error ended its operation."""
    yield step
    if step.or_first and step.rows:
        for count in range(1, len(step.rows)):
            yield replace(step, rows=dict(islice(step.rows.items(), count)))
