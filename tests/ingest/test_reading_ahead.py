"""Slabs come in order, one ahead, with their errors; the generator is closed whoever stops first."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from radiobject_assets.ingest.work.reading_ahead import read_ahead


class Source:
    """Numbers, and what became of the generator that makes them."""

    def __init__(self, count: int, fail_at: int = -1) -> None:
        self.count, self.fail_at = count, fail_at
        self.made: list[int] = []
        self.threads: set[int] = set()
        self.closed = threading.Event()

    def numbers(self) -> Generator[int, None, None]:
        try:
            for number in range(1, self.count + 1):
                if number == self.fail_at:
                    raise ValueError(f"no number {number}")
                self.made.append(number)
                self.threads.add(threading.get_ident())
                yield number
        finally:
            self.closed.set()


def test_all_items_come_in_order_from_one_other_thread() -> None:
    source = Source(20)
    assert list(read_ahead(source.numbers())) == list(range(1, 21))
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads
    assert source.closed.is_set()


def test_no_more_than_one_item_is_made_ahead() -> None:
    source = Source(20)
    for number in read_ahead(source.numbers()):
        assert source.made[-1] <= number + 1


def test_an_error_comes_after_the_items_before_it() -> None:
    source = Source(20, fail_at=4)
    ahead = read_ahead(source.numbers())
    assert [next(ahead) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="no number 4"):
        next(ahead)
    assert source.closed.is_set()


def test_a_reader_that_stops_early_closes_the_generator_and_ends_the_thread() -> None:
    source, before = Source(20), threading.active_count()
    ahead = read_ahead(source.numbers())
    assert next(ahead) == 1
    ahead.close()
    assert source.closed.is_set()
    assert len(source.made) <= 2
    assert threading.active_count() == before
