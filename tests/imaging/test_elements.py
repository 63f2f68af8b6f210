"""The fast header reader agrees with pydicom on every element that is kept, over all reference files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import slice_dataset
from pydicom.uid import ImplicitVRLittleEndian

from radiobject_assets.imaging import tags
from radiobject_assets.imaging.elements import Elements, OddElements
from radiobject_assets.imaging.headers import _fast_header, _from_pydicom
from radiobject_assets.imaging.scan import scan


def _files(shared_data: Path) -> list[Path]:
    return sorted(path for path in (shared_data / "series").rglob("*") if path.is_file())


def _differences(ours: Elements, theirs: Elements, where: str = "") -> list[str]:
    found = []
    for tag in set(ours.values) | set(theirs.values):
        kind = tags.WANTED[tag]
        name = f"{where}{tag:08X}"
        if kind == "SQ":
            mine, other = ours.items(tag), theirs.items(tag)
            if len(mine) != len(other):
                found.append(f"{name}: {len(mine)} items, pydicom {len(other)}")
            for a, b in zip(mine, other, strict=False):
                found += _differences(a, b, f"{name}/")
        elif kind == "OB":
            continue
        elif ours.numbers(tag) or theirs.numbers(tag):
            if ours.numbers(tag) != pytest.approx(theirs.numbers(tag)):
                found.append(f"{name}: {ours.numbers(tag)}, pydicom {theirs.numbers(tag)}")
        elif ours.text(tag).replace(" ", "") != theirs.text(tag).replace(" ", ""):
            found.append(f"{name}: {ours.text(tag)!r}, pydicom {theirs.text(tag)!r}")
    return found


def _read(path: Path) -> tuple[Any, int]:
    data = path.read_bytes()
    return (lambda offset, size: data[offset : offset + size]), len(data)


def test_the_fast_reader_agrees_with_pydicom_on_all_reference_files(shared_data: Path) -> None:
    compared, wrong = 0, []
    for path in _files(shared_data):
        if "malformed" in str(path):
            continue
        read, size = _read(path)
        try:
            header, _ = _fast_header(read, read(0, 4096), size)
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except OddElements:
            continue
        theirs = _from_pydicom(dataset, 0)
        wrong += [f"{path.name}: {difference}" for difference in _differences(header.elements, theirs)]
        compared += 1
    assert not wrong, "\n".join(wrong[:20])
    assert compared > 350


def test_the_offset_of_the_pixels_is_where_pydicom_finds_them(shared_data: Path) -> None:
    for path in _files(shared_data):
        if "malformed" in str(path):
            continue
        read, size = _read(path)
        try:
            header, syntax = _fast_header(read, read(0, 4096), size)
        except OddElements:
            continue
        if header.pixel_offset < 0 or header.pixel_length < 0 or syntax.endswith(".99"):
            continue
        dataset = pydicom.dcmread(path, force=True)
        value = dataset[header.pixel_keyword].value
        assert read(header.pixel_offset, header.pixel_length) == value[: header.pixel_length], path.name


def test_a_header_is_read_without_the_rest_of_the_file(shared_data: Path) -> None:
    largest = max(_files(shared_data), key=os.path.getsize)
    read, size = _read(largest)
    asked: list[int] = []

    def counting(offset: int, count: int) -> bytes:
        asked.append(count)
        return bytes(read(offset, count))

    _fast_header(counting, read(0, 4096), size)
    assert sum(asked) < max(300_000, size // 4)


def test_one_private_element_of_another_kind_does_not_cost_the_file(tmp_path: Path) -> None:
    """Without VRs in the file, a dictionary says that Philips' b-value is a number; a text is there."""
    ds = slice_dataset(np.ones((4, 4), "i2"), position=(0, 0, 7), syntax=ImplicitVRLittleEndian)
    ds.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "LO", "ten letters")
    ds.private_block(0x0065, "ANONYMOUS", create=True).add_new(0x51, "LO", "no sequence")
    ds.save_as(tmp_path / "one")
    (instance,) = scan([tmp_path]).instances
    assert (instance.rows, instance.frames[0].position) == (4, (0.0, 0.0, 7.0))
