"""dataset.yaml: what is accepted, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from radiobject_assets.dataset.collection_section import TileExtents
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.errors import ConfigurationError

GOOD = """\
name: chest
landing: incoming
store: s3://bucket/chest
collections:
  ct:
    match: {modality: CT, description: "thorax|chest", dicom: {ImageType: AXIAL}}
    tile: {x: 64, y: 64, z: 16}
  seg:
    kind: labels
    labels_of: ct
    match: {modality: SEG}
  t1w:
    match: {files: "*_T1w.nii.gz"}
patches: {image: ct, labels: seg, size_voxels: [48, 48, 16], foreground_fraction: 0.5}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "dataset.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_description_is_read_and_its_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_dataset(write(tmp_path, GOOD))
    assert list(config.collections) == ["ct", "seg", "t1w"]
    assert config.collections["ct"].tile == TileExtents(x=64, y=64, z=16)
    assert config.landing_places == (str(tmp_path / "incoming"),)
    assert config.store_uri == "s3://bucket/chest"


def test_landing_zones_may_be_several_and_none_in_another(tmp_path: Path) -> None:
    config = load_dataset(write(tmp_path, "landing: [incoming, s3://bucket/in, /other]"))
    assert config.landing_places == (str(tmp_path / "incoming"), "s3://bucket/in", "/other")
    for wrong in ("[in, in/deep]", "[in, ./in]", "[s3://bucket/in/deep, s3://bucket/in]"):
        with pytest.raises(ConfigurationError, match="lies in, another of the landing zones"):
            load_dataset(write(tmp_path, f"landing: {wrong}"))
    for wrong in ("[]", "ftp://host/in", "[in, 'ftp://host/in']", "3"):
        with pytest.raises(ConfigurationError, match="landing"):
            load_dataset(write(tmp_path, f"landing: {wrong}"))


def test_an_empty_file_collects_by_modality(tmp_path: Path) -> None:
    assert load_dataset(write(tmp_path, "")).collects_by_modality


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (
            ("modality: CT", "modalty: CT"),
            6,
            ["collections.ct.match.modalty", "modality, description, dicom"],
        ),
        (("kind: labels", "kind: label"), 9, ["collections.seg.kind", "'image' or 'labels'"]),
        (("labels_of: ct", "labels_of: cta"), None, ["collections.seg.labels_of", "ct, seg, t1w"]),
        (("patches:", "patchez:"), 14, ["patchez", "unknown key", "patches"]),
        (("ImageType: AXIAL", "PatientName: X"), 6, ["PatientName", "ImageType"]),
        (("thorax|chest", "thorax("), 6, ["not a regular expression"]),
        (("tile: {x: 64, y: 64, z: 16}", "tile: axail"), 7, ["axial", "isotropic"]),
        (("  t1w:", "  splits:"), None, ["splits", "taken"]),
        (("foreground_fraction: 0.5", "foreground_fraction: 1.5"), 14, ["foreground_fraction", "1"]),
    ],
)
def test_a_mistake_is_told_with_its_line_its_key_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], line: int | None, told: list[str]
) -> None:
    assert change[0] in GOOD
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ConfigurationError) as error:
        load_dataset(path)
    message = str(error.value)
    assert (f"{path}:{line}: " if line else str(path)) in message
    for part in told:
        assert part in message


def test_a_key_given_twice_is_refused_where_yaml_would_keep_the_last(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "name: other\n")
    with pytest.raises(ConfigurationError, match="given twice"):
        load_dataset(path)


def test_fractions_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match=r"sum to 0\.5"):
        DatasetSettings.model_validate({"split": {"fractions": {"train": 0.5}}})


def test_an_absent_file_and_broken_yaml_are_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load_dataset(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        load_dataset(write(tmp_path, "a: [1,"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "collections:\n  ct: {match: {modality: CT}, tile: {x: 0, y: 1, z: 1}}\n",
            ":2: collections.ct.tile.x: 0",
        ),
        ("collections:\n  ct: {match: {modality: []}}\n", ":2: collections.ct.match.modality: []"),
        ("collections:\n  t1: {match: {files: []}}\n", ":2: collections.t1.match.files: []"),
        ("collections:\n  ct:\n", ":2: collections.ct: expected keys with their values; allowed here: match"),
        ("collections: [ct]\n", ":1: collections: expected keys"),
        ("name: a\ncollections:\n  CT: {match: {modality: CT}}\n", ":3: collections.CT: use small letters"),
        ("folder: /etc\n", ":1: folder: unknown key"),
        ('store: ""\n', ":1: store: ''"),
        ("store: http://server/store\n", ":1: store: 'http://server/store': a store is at"),
        ("store: file://store\n", "needs an absolute path"),
        ("landing: gs://bucket/landing\n", ":1: landing: "),
        ("subjects: {table: ../participants.tsv}\n", ":1: subjects.table: "),
        ("a: &a [*a]\n", "contains itself"),
        ("? [a, b]\n: c\n", ":1: a key must be text"),
        ("name: a\n5: b\n", ":2: 5: a key must be text"),
        ("name: a\n---\nname: b\n", "not valid YAML"),
    ],
)
def test_no_mistake_gives_more_than_one_line_or_a_crash(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_dataset(write(tmp_path, text))
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_section_without_lines_has_its_defaults(tmp_path: Path) -> None:
    assert load_dataset(write(tmp_path, "collections:\nsplit:\n")).split == DatasetSettings().split
