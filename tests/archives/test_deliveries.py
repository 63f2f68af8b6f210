"""A delivery that is killed at any of its steps: the arrival is what it was, or what it is to be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radiobject_assets.archives.deliveries import Delivery

STEPS = ("link", "rename", "replace", "unlink", "rmdir", "mkdir")


def staged(delivery: Delivery, names: str) -> None:
    for name in names:
        delivery.write(f"series-{name.lower()}", name, lambda path, name=name: path.write_text(name))


def content(delivery: Delivery) -> dict[str, str]:
    """Instances that the platform would see."""
    return {path.stem: path.read_text() for path in delivery.visible.rglob("*.dcm")}


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Do it in a process that ends, without a word, before its `step`th change of the disk."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def one(*args: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return call(*args, **named)

            return one

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("before", ["", "ab"])
def test_whenever_it_is_killed_nothing_is_seen_in_part_and_the_next_one_finishes(
    before: str, tmp_path: Path
) -> None:
    step, absent = 0, 0
    while True:
        delivery = Delivery(tmp_path / str(step), "pacs", "study")
        delivery.landing.mkdir()
        if before:
            staged(delivery, before)
            delivery.deliver()
        staged(delivery, "abcd" if not before else "Acd")
        if before:  # a correction of what is there already
            delivery.write("series-a", "a", lambda path: path.write_text("corrected"))
        old = content(delivery)
        new = {**old, **{path.stem: path.read_text() for path in delivery.staged.rglob("*.dcm")}}
        killed = killed_at(step, delivery.deliver)
        # between two renames it is not there at all, for a moment
        absent += bool(old) and not delivery.visible.exists()
        assert content(delivery) in ((old, new) if delivery.visible.exists() or not old else ({},))
        assert delivery.delivered().keys() == {f"series-{name.lower()}" for name in content(delivery)}
        assert content(delivery) in (old, new)
        assert delivery.deliver() == len(content(delivery))
        assert content(delivery) == new
        assert (delivery.visible / "_COMPLETE").is_file()
        others = [path for path in (delivery.landing / ".archives").rglob("*") if path.is_file()]
        assert others == []
        if not killed:
            break
        step += 1
    assert step > 10
    assert absent == bool(before)
