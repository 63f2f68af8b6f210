"""A coded attribute says what its list, its vocabulary or its form allows, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dicom_files import ramp, write_stack
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset, FileDataset
from pydicom.sr import codes

from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.dicom.tags import ATTRIBUTES, OPTIONAL_ATTRIBUTES
from radiobject_assets.imaging.dicom.terms import FREE, in_terms
from radiobject_assets.imaging.nifti.sidecars import read_sidecars
from radiobject_assets.imaging.scanning.scan import scan

TEXTS = {tag for tag, kind in ATTRIBUTES.values() if kind is str}
BY_CHOICE = {tag for _, tag, kind in OPTIONAL_ATTRIBUTES.values() if kind is str}
FREE_BY_CHOICE = {
    "FilterType", "ProtocolName", "ReceiveCoilName", "ReconstructionMethod", "SeriesDescription",
    "SoftwareVersions", "TransmitCoilName",
}  # fmt: skip


def _instance(folder: Path, values: dict[int, str], **changes: Any) -> Instance:
    def change(ds: FileDataset, k: int) -> None:
        for tag, value in values.items():
            ds.add_new(tag, dictionary_VR(tag), value)
        for keyword, value in changes.items():
            setattr(ds, keyword, value)

    with disable_value_validation():
        write_stack(folder, ramp(1), change=change)
    return scan([folder]).instances[0]


@pytest.mark.parametrize(
    "word", ["QWERTZ", "qwertz", "HEAD QWERTZ", "4711234711", "YES\\QWERTZ", "SE^QWERTZ"]
)
def test_no_attribute_with_terms_carries_a_word_that_nobody_knows(tmp_path: Path, word: str) -> None:
    found = _instance(tmp_path, dict.fromkeys(TEXTS | BY_CHOICE | {0x00080060}, word))
    hidden = [part for part in ("qwertz", "4711234711") if part in word.casefold()]
    told = {**found.attributes, **found.extras, "modality": found.modality}
    carriers = {name for name, value in told.items() if any(h in str(value).casefold() for h in hidden)}
    free = {name for name, (tag, _) in ATTRIBUTES.items() if tag in FREE}
    by_form = {"ImageType", "ScanOptions"} if word in ("QWERTZ", "HEAD QWERTZ", "YES\\QWERTZ") else set()
    if word == "4711234711":  # a code string, and a UID as far as its form goes
        by_form = {"ImageType", "ScanOptions", "FrameOfReferenceUID", "AcquisitionDateTime"}
    assert carriers == free | FREE_BY_CHOICE | by_form


def test_the_patients_name_is_in_none_of_the_allowed_attributes(tmp_path: Path) -> None:
    """Whatever is before and after it, in the free ones too."""
    for value in ("SMITHSON", "HEAD SMITHSON", "Siemens smithson", "B30_SMITHSON"):
        found = _instance(
            tmp_path / value.replace(" ", ""),
            dict.fromkeys(TEXTS | BY_CHOICE, value),
            PatientName="Smithson^J",
        )
        told = json.dumps([found.attributes, found.extras, found.modality])
        assert "smithson" not in told.casefold()


def test_a_tracer_is_told_by_words_that_tracers_have(tmp_path: Path) -> None:
    def tracer(name: str, **texts: str) -> Any:
        item, code = Dataset(), Dataset()
        item.Radiopharmaceutical = texts.get("text", "")
        code.CodeValue, code.CodingSchemeDesignator = "C-B1031", "SRT"
        code.CodeMeaning = texts.get("meaning", "")
        item.RadiopharmaceuticalCodeSequence = item.RadionuclideCodeSequence = [code]
        found = _instance(tmp_path / name, {}, RadiopharmaceuticalInformationSequence=[item]).attributes
        return found.get("radiopharmaceutical"), found.get("radionuclide")

    assert tracer("a", text="F-18 FDG", meaning="^18^Fluorine") == ("F-18 FDG", "^18^Fluorine")
    assert (
        tracer("b", text="FDG for Qwertz", meaning="Fluorodeoxyglucose F^18^")[0]
        == "Fluorodeoxyglucose F^18^"
    )
    assert tracer("c", text="Qwertz", meaning="Qwertz") == (None, None)
    assert tracer("d", text="FDG 47112347") == (None, None)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("BodyPartExamined", "CHESTABDPELVIS"),
        ("BodyPartExamined", "WHOLE BODY"),
        ("BodyPartExamined", "CSPINE"),
        ("BodyPartExamined", "L5"),
        ("ScanningSequence", "EP\\GR"),
        ("SequenceVariant", "SK\\SP\\MP"),
        ("ContrastBolusAgent", "11 ml Omniscan"),
        ("ContrastBolusAgent", "ISOVUE300/100"),
        ("RescaleType", "HU"),
        ("RescaleType", "mrad"),
        ("CorrectedImage", "NRGY\\LIN"),
        ("PatientPosition", "FFDR"),
        ("PatientAge", "045Y"),
        ("ImageType", "ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE"),
        ("AcquisitionDateTime", "20200131101500.250000+0100"),
    ],
)
def test_what_scanners_write_passes(keyword: str, value: str) -> None:
    tags = {keyword_for_tag(tag): tag for tag in TEXTS | BY_CHOICE}
    assert in_terms(tags[keyword], value) == value


@pytest.mark.parametrize(
    ("tag", "list_number"), [(0x00180015, 4), (0x00180015, 4031), (0x00180010, 12), (0x00180031, 4021)]
)
def test_the_terms_of_the_standards_context_groups_pass(tag: int, list_number: int) -> None:
    group = getattr(codes, f"cid{list_number}")
    meanings = [getattr(group, name).meaning for name in group.dir() if hasattr(group, name)]
    refused = [meaning for meaning in meanings if in_terms(tag, meaning) != meaning]
    # numbers of six digits and more are in some antibodies' names, and could be anybody's
    assert len(meanings) > 30
    assert all(any(c.isdigit() for c in meaning) for meaning in refused)
    assert len(refused) <= 6


def test_a_sidecar_tells_no_other_words_than_a_header(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "a.json"
    content = {"ScanningSequence": "GR_IR", "BodyPartExamined": "QWERTZ", "Units": "Bq/mL", "Modality": "PT"}
    path.write_text(json.dumps({**content, "SequenceVariant": "SK_QWERTZ", "PatientPosition": "HFS"}))
    assert read_sidecars([path], np.eye(4)) == {
        "scanning_sequence": "GR_IR", "pixel_units": "Bq/mL", "modality": "PT", "patient_position": "HFS",
    }  # fmt: skip
