"""Audits of real folders: good series have no findings, and what is not good is said of the others."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from radiobject_assets.audit.folder_audit import audit_folder
from radiobject_assets.diagnostics.findings import Finding
from radiobject_assets.phantom.cohort import make_cohort

# What dcm2niix makes one volume or several of, and what is none: a scout, a report, fragments, non-images.
_NOT_GOOD = {
    "ct_philips_scout", "sc_philips_rgb_report", "ct_siemens_notavolume", "ct_siemens_missing_slice",
    "sc_rgb_j2k", "mr_emri_small", "nonimage_mix", "malformed_fuzz", "malformed_pydicom", "seg_ct_highdicom",
    "rt_rtstruct_refs",
}  # fmt: skip
# The files of mr_comp_j2k with another compression: together they are copies, as the audit would say.
_OTHER_ENCODINGS = {"mr_comp_jpegll", "mr_comp_jpegls", "mr_comp_rle"}
# Its headers have a date of birth.
_WITH_A_BIRTHDAY = {"mr_siemens_mosaic_fmri4d"}


def _findings(folder: Path) -> list[Finding]:
    return [finding for report in audit_folder(folder).reports for finding in report.findings]


@pytest.fixture(scope="module")
def good(shared_data: Path) -> list[Path]:
    with (shared_data / "manifest.csv").open() as file:
        names = [Path(row["path"]).name for row in csv.DictReader(file)]
    return [shared_data / "series" / name for name in names if name not in _NOT_GOOD]


def test_a_folder_of_all_good_series_has_no_findings(good: list[Path], tmp_path: Path) -> None:
    assert len(good) > 20
    for series in good:
        if series.name in _OTHER_ENCODINGS:
            continue
        (tmp_path / series.name).mkdir()
        for path in filter(Path.is_file, series.rglob("*")):
            (tmp_path / series.name / path.name).symlink_to(path)
    found = [(one.kind.code, Path(one.where).parts[0]) for one in _findings(tmp_path)]
    assert found == [("header_identifiers", name) for name in _WITH_A_BIRTHDAY]


@pytest.mark.slow
def test_good_series_have_no_findings_one_by_one(good: list[Path]) -> None:
    for series in good:
        kinds = ["header_identifiers"] if series.name in _WITH_A_BIRTHDAY else []
        assert [one.kind.code for one in _findings(series)] == kinds, series.name


def test_of_nifti_files_only_the_complex_one_is_named(shared_data: Path) -> None:
    found = _findings(shared_data / "nifti")
    assert [(one.kind.code, one.where) for one in found] == [("refused_nifti_datatype", "complex.nii.gz")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ct_siemens_missing_slice", "refused_missing_slice"),
        ("ct_siemens_notavolume", "refused_unproved_order"),
        ("rt_rtstruct_refs", "refused_reference_missing"),
        ("seg_ct_highdicom", "refused_reference_missing"),
    ],
)
def test_what_is_not_good_is_named(name: str, kind: str, shared_data: Path) -> None:
    assert kind in {one.kind.code for one in _findings(shared_data / "series" / name)}


def test_the_phantom_cohort_is_told_as_it_was_made(tmp_path: Path) -> None:
    truth = make_cohort(tmp_path / "cohort", subjects=4, shape=(48, 48, 24))
    audit = audit_folder(tmp_path / "cohort")
    found = [finding for report in audit.reports for finding in report.findings]
    wrong = [s for subject in truth.subjects for s in subject.series if s.verdict == "quarantined"]
    refused = [one.kind.code for one in found if one.kind.code.startswith("refused_")]
    assert sorted(refused) == sorted(f"refused_{series.reason}" for series in wrong if series.volume is None)
    # names and birthdays of all persons, and nothing of them in a text
    persons = [one for one in found if one.kind.code == "header_identifiers"]
    assert len(persons) == 4
    assert all("PatientName" in one.evidence and "PatientBirthDate" in one.evidence for one in persons)
    told = " ".join(one.about + one.evidence for one in found)
    assert not any(word in told for subject in truth.subjects for word in subject.identifiers)
    # the folder that several lie in makes nobody one with another
    assert {item.subject for item in audit.view.images} >= {
        s.participant.participant_id for s in truth.subjects
    }


def test_the_person_in_a_header_that_is_odd_is_found_too(shared_data: Path, tmp_path: Path) -> None:
    # a header that the fast reader gives up on, and pydicom understands
    name = "TC0469_group_len_zero.dcm"
    (tmp_path / name).symlink_to(shared_data / "series" / "malformed_fuzz" / name)
    audit = audit_folder(tmp_path)
    [headers] = [report for report in audit.reports if report.what == "DICOM headers"]
    assert headers.looked_at == 1
    assert "PatientName" in headers.findings[0].evidence
