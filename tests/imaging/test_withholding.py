"""A text that repeats who somebody is does not leave a header; one that does not, does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dicom_files import ramp, write_stack
from pydicom.dataset import FileDataset

from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.imaging.scanning.scan import ScanResult, scan


def instance(tmp_path: Path, **values: str) -> Instance:
    def change(dataset: FileDataset, k: int) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    write_stack(tmp_path, ramp(n_slices=1), change=change)
    return scan([tmp_path]).instances[0]


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("Doe^Jane", "B30f DOE"),
        ("Doe^Jane", "jane's"),
        ("Müller^Änne", "müller"),
        ("山田^太郎=やまだ^たろう", "やまだ"),
        ("Lindqvist", "xLINDQVISTx"),
    ],
)
def test_an_allowed_text_with_the_patients_name_is_withheld(tmp_path: Path, name: str, kernel: str) -> None:
    found = instance(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName=name, ConvolutionKernel=kernel)
    assert "convolution_kernel" not in found.attributes


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "MRN4711"),
        ("AccessionNumber", "A-990017"),
        ("PatientBirthDate", "19370911"),
        ("OperatorsName", "Technician^T"),
        ("ReferringPhysicianName", "House^Gregory"),
        ("PatientAddress", "221B Baker Street"),
    ],
)
def test_so_is_one_with_a_number_a_date_an_address_or_staff(tmp_path: Path, keyword: str, value: str) -> None:
    word = value.split("^")[0].split()[-1].split("-")[-1]
    found = instance(tmp_path, **{keyword: value, "SequenceName": f"x {word}", "Manufacturer": "SIEMENS"})
    assert "sequence_name" not in found.attributes
    assert found.attributes["manufacturer"] == "SIEMENS"


def test_everyday_words_in_a_name_withhold_nothing(tmp_path: Path) -> None:
    found = instance(
        tmp_path,
        PatientName="Head^Phantom",
        InstitutionName="Siemens Healthineers",
        BodyPartExamined="HEAD",
        Manufacturer="Siemens Healthineers",
    )
    assert (found.attributes["body_part"], found.attributes["manufacturer"]) == (
        "HEAD",
        "Siemens Healthineers",
    )


def test_a_description_is_matched_as_it_is_and_stored_without_the_name(tmp_path: Path) -> None:
    found = instance(tmp_path, PatientName="Doe^Jane", SeriesDescription="CHEST Doe Jane 1mm")
    assert found.description == "CHEST Doe Jane 1mm"
    kept = Release(frozenset({"SeriesDescription"})).scan(ScanResult((found,))).instances[0]
    assert kept.attributes["series_description"] == "CHEST * * 1mm"
    hidden = Release(key=b"0123456789abcdef").scan(ScanResult((found,))).instances[0]
    assert hidden.description == "CHEST * * 1mm"
    assert "series_description" not in hidden.attributes


def test_attributes_that_nobody_asked_for_do_not_pass_the_release(tmp_path: Path) -> None:
    found = instance(tmp_path, ProtocolName="liver", StudyDate="20200131")
    assert {"ProtocolName", "StudyDate"} <= found.extras.keys()
    passed = Release(frozenset({"StudyDate"})).scan(ScanResult((found,))).instances[0]
    assert passed.extras == {}
    assert passed.attributes["study_date"] == "20200131"
    assert "protocol_name" not in passed.attributes


@pytest.mark.parametrize(("name", "kept"), [("1", True), ("A2", True), ("QWERTZ", False), ("4711234", False)])
def test_names_of_stacks_are_told_where_they_are_numbers(tmp_path: Path, name: str, kept: bool) -> None:
    found = instance(tmp_path)
    stacked = replace(found, frames=tuple(replace(frame, stack=name) for frame in found.frames))
    (frame,) = Release().scan(ScanResult((stacked,))).instances[0].frames
    assert (frame.stack == name) is kept
    assert frame.stack
