"""Which columns of the subjects' table become obs_meta: with pseudonyms an allow-list, in every language."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pydantic
import pytest

from radiobject_assets.dataset.subject_section import SubjectsConfig
from radiobject_assets.errors import IngestError
from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.ingest.naming.subject_table import SubjectTable, read_subject_tables

NAMED = {
    "Nachname": "Müller", "Vorname": "Jürgen", "Geburtsdatum": "11.09.1937", "Bemerkung": "Frau Dr. Weiß",
    "Nom de famille": "Lefèvre", "Дата рождения": "11.09.1937", "姓名": "山田太郎", "الاسم": "محمد",
    "hospital_id": "H-7", "address": "Elm Street 1",
}  # fmt: skip
HARMLESS = {"age": 44, "sex": "F", "scan_date": "2020-02-10"}


def read(folder: Path, release: Release, encoding: str = "utf-8", **subjects: object) -> SubjectTable:
    path = folder / "participants.tsv"
    row = {"participant_id": "patient-7", **NAMED, **HARMLESS}
    path.write_text(pd.DataFrame([row]).to_csv(sep="\t", index=False), encoding=encoding)
    return read_subject_tables([path], SubjectsConfig.model_validate(subjects), release)


@pytest.fixture
def pseudonyms() -> Release:
    return Release(key=b"a secret of enough letters")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_with_pseudonyms_only_named_columns_are_taken_whatever_their_language(
    tmp_path: Path, pseudonyms: Release, encoding: str
) -> None:
    read_by_name = read(tmp_path, pseudonyms, encoding, key="pseudonym", columns=["age", "sex"])
    assert list(read_by_name.rows) == ["obs_subject_id", "age", "sex"]
    assert set(read_by_name.left_out) == {*NAMED, "scan_date"}
    assert "11 columns" in read_by_name.told
    assert not [text for text in (*NAMED, *NAMED.values()) if text in read_by_name.told]
    nothing = read(tmp_path, pseudonyms, encoding, key="pseudonym")
    assert list(nothing.rows) == ["obs_subject_id"]


def test_without_pseudonyms_named_columns_are_taken_alone_as_well(tmp_path: Path) -> None:
    assert list(read(tmp_path, Release(), columns=["sex"]).rows) == ["obs_subject_id", "sex"]
    everything = read(tmp_path, Release())
    assert {"Nachname", "age"} < set(everything.rows)
    assert "address" in everything.left_out


def test_a_cell_holds_what_its_column_is_said_to_hold_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text(
        "participant_id\tage\tsex\tseen\tarm\n1\t44\tF\t2020-02-10\tA\n2\tJane Doe\tMs. Doe\tin May\tB\n"
    )
    columns = {"age": "number", "sex": ["F", "M"], "seen": "date", "arm": "text"}
    table = read_subject_tables([path], SubjectsConfig.model_validate({"columns": columns}), Release())
    first, second = table.rows.set_index("obs_subject_id").to_dict("records")
    assert first == {"age": 44, "sex": "F", "seen": "2020-02-10", "arm": "A"}
    assert second["arm"] == "B"
    assert all(pd.isna(second[name]) for name in ("age", "sex", "seen"))
    assert table.emptied == 3
    assert "3 cells" in table.told


def test_dates_move_with_their_subject_and_its_own_id_is_emptied(tmp_path: Path, pseudonyms: Release) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tseen\tfolder\npatient-7\t2020-02-10\t/data/patient-7/ct\n")
    columns = {"seen": "date", "folder": "text"}
    subjects = SubjectsConfig.model_validate({"key": "pseudonym", "columns": columns})
    (row,) = read_subject_tables([path], subjects, pseudonyms).rows.to_dict("records")
    moved = pseudonyms.date("20200210", row["obs_subject_id"])
    assert row["seen"].replace("-", "") == moved != "20200210"
    assert pd.isna(row["folder"])


def test_a_table_without_headings_tells_no_cell(tmp_path: Path, pseudonyms: Release) -> None:
    path = tmp_path / "participants.tsv"
    path.write_text("patient-7\tMüller\n")
    with pytest.raises(IngestError) as raised:
        read_subject_tables([path], SubjectsConfig(key="pseudonym"), pseudonyms)
    assert "Müller" not in str(raised.value)


@pytest.mark.parametrize("columns", [{"age": "numbers"}, {"sex": []}])
def test_a_kind_that_there_is_not_is_refused(columns: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        SubjectsConfig.model_validate({"columns": columns})
