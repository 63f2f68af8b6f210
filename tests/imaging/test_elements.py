"""The fast reader of elements: what it learns from one header never changes what it reads from another."""

from __future__ import annotations

import random

import pytest

from radiobject_assets.imaging.dicom.elements import (
    Elements,
    Header,
    KnownElements,
    OddElements,
    read_elements,
)
from radiobject_assets.imaging.dicom.header_cache import HeaderCache
from radiobject_assets.imaging.dicom.tags import WANTED
from radiobject_assets.phantom.cohort import make_subject

CACHE = HeaderCache()


def read(data: bytes, known: KnownElements | None, *, explicit: bool, big: bool) -> tuple[Header, int] | str:
    try:
        found, end = read_elements(
            lambda offset, size: data[offset : offset + size],
            0,
            len(data),
            WANTED,
            explicit=explicit,
            big=big,
            known=known,
        )
    except OddElements as error:
        return str(error)
    return Header(
        Elements(found.elements.values, {}), found.pixel_keyword, found.pixel_offset, found.pixel_length
    ), end


def both_ways(data: bytes, *, explicit: bool = True, big: bool = False) -> None:
    """The same read with what all reads before have learned, and by itself."""
    known = CACHE.known_elements(WANTED, explicit=explicit, big=big)
    learned = read(data, known, explicit=explicit, big=big)
    assert learned == read(data, None, explicit=explicit, big=big)


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Data sets of explicit little endian files, from their first element on."""
    folder = tmp_path_factory.mktemp("subject")
    make_subject(folder, 1, shape=(48, 48, 24))
    files = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()][::7]
    dicom = [data for data in files if data[128:132] == b"DICM" and b"1.2.840.10008.1.2.1\0" in data[:400]]
    return [data[144 + int.from_bytes(data[140:144], "little") :] for data in dicom]


def test_headers_are_read_the_same_after_others_as_at_first(data_sets: list[bytes]) -> None:
    assert len(data_sets) > 5
    for _ in range(2):
        for data in data_sets:
            both_ways(data)


def test_a_header_that_ends_anywhere_is_understood_or_refused_as_if_it_were_the_first(
    data_sets: list[bytes],
) -> None:
    whole = data_sets[0]
    both_ways(whole)
    for end in range(0, min(len(whole), 3000), 3):
        both_ways(whole[:end])


def test_damaged_bytes_are_understood_or_refused_as_if_they_were_the_first(data_sets: list[bytes]) -> None:
    choose = random.Random(7)
    for number in range(600):
        data = bytearray(choose.choice(data_sets)[:6000])
        for _ in range(choose.choice((1, 2, 5))):
            data[choose.randrange(min(len(data), 2500))] = choose.choice(
                (0, 1, 2, 16, 255, choose.randrange(256))
            )
        both_ways(bytes(data), explicit=number % 5 != 0, big=number % 11 == 0)
