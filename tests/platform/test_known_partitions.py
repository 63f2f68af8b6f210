"""Partitions of very many arrivals are asked for every few minutes."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from radiobject_assets.platform.arrivals.known_partitions import known_partitions, note_added


def test_of_many_partitions_dagster_is_asked_every_few_minutes_and_of_few_each_time(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        told = lambda now_s, many, anew=False: known_partitions(  # noqa: E731
            instance, "arrivals", anew=anew, many=many, clock=lambda: now_s
        )
        instance.add_dynamic_partitions("arrivals", ["a", "b", "c"])
        assert told(1000.0, 2).names == {*"abc"}
        instance.add_dynamic_partitions("arrivals", ["d"])
        assert not told(1010.0, 2).is_of_now
        assert told(1010.0, 3).names == {*"abcd"}
        instance.delete_dynamic_partition("arrivals", "a")
        note_added(instance, "arrivals", frozenset("e"))
        assert told(1020.0, 2).names == {*"abcde"}
        assert told(1020.0, 2, anew=True).names == {*"bcd"}
        instance.delete_dynamic_partition("arrivals", "b")
        assert told(1030.0, 2).names == {*"bcd"}
        assert told(1400.0, 2).names == {*"cd"}
