"""docs/layouts.md is true: its folders are made, its commands run, and its tables are what comes of it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.dataset.layouts import LAYOUTS
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.ingest.naming.doubtful_subjects import doubtful_subjects
from radiobject_assets.store import RadiObject

PAGE = Path(__file__).resolve().parents[2] / "docs" / "layouts.md"
APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(60)


@dataclass(frozen=True)
class Row:
    path: str
    subject: str
    collection: str
    labels_of: str


@dataclass(frozen=True)
class Section:
    layout: str
    command: list[str]
    rows: list[Row]
    examples: list[str]
    """YAML blocks, the first of which is the layout alone."""


def sections() -> dict[str, Section]:
    found = {}
    for text in PAGE.read_text(encoding="utf-8").split("\n## ")[3:]:
        table = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ([^|]*) \| (?:`([^`]*)`)? ?\|$", text, re.MULTILINE)
        plain = [Row(path, s.strip(), c.strip(), labels) for path, s, c, labels in table]
        listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
        plain += [Row(path, "", "", "") for path in sorted(listed - {row.path for row in plain})]
        (command,) = re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL)
        examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        layout = yaml.safe_load(examples[0])["layout"]
        found[layout] = Section(layout, shlex.split(command), plain, examples)
    return found


SECTIONS = sections()


def make(section: Section, folder: Path) -> None:
    """The folder of a section; every image has its own values, so that no two are the same."""
    for number, row in enumerate(section.rows):
        path = folder / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not row.subject:
            path.write_bytes(APPLE_DOUBLE if path.name.startswith("._") else b"image_id;age\ns0001;54\n")
            continue
        shape = (6, 5, 4, 3) if row.collection == "bold" else (6, 5, 4)
        voxels = np.full(shape, number % 2 if row.labels_of else number + 1, np.int16)
        voxels.flat[0] = 0
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=folder,
    )
    assert done.stdout, done.stderr
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_every_layout_has_its_section() -> None:
    assert SECTIONS.keys() == LAYOUTS.keys()
    assert all(len([row for row in section.rows if row.subject]) >= 4 for section in SECTIONS.values())


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS.keys())
def test_a_layout_gives_subjects_collections_and_pairs_as_its_table_says(
    section: Section, tmp_path: Path
) -> None:
    make(section, tmp_path)
    assert section.command[0] == "radiobject-assets"
    code, report = run(tmp_path, *section.command[1:])
    assert (code, report["warnings"], report["problems"]) == (0, [], [])
    series = {str(item["source"]): item for item in report["series"]}
    wanted = {row.path: row for row in section.rows if row.subject}
    assert {
        path: (item["subject_id"], item["collection"], item["reason"]) for path, item in series.items()
    } == {path: (row.subject, row.collection, None) for path, row in wanted.items()}
    store = RadiObject(str(tmp_path / "store"))
    for row in wanted.values():
        if not row.labels_of:
            continue
        obs = store.collection(row.collection).obs.read()
        (named,) = obs[obs["obs_id"] == series[row.path]["obs_id"]].to_dict("records")
        assert named["labels_of"] == series[row.labels_of]["obs_id"], row.path
        assert named["kind"] == "labels"


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS.keys())
def test_a_layout_in_the_file_is_the_layout_on_the_command_line(section: Section, tmp_path: Path) -> None:
    for number, example in enumerate(section.examples):
        (tmp_path / f"{number}.yaml").write_text(example, encoding="utf-8")
    given = load_dataset(tmp_path / "0.yaml")
    assert given.collections == DatasetSettings(layout=section.layout).collections
    assert given.subjects == DatasetSettings(layout=section.layout).subjects
    for number in range(1, len(section.examples)):
        assert load_dataset(tmp_path / f"{number}.yaml").subjects == given.subjects


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS.keys())
def test_no_subject_of_a_layout_looks_wrong(section: Section) -> None:
    names = [row.path.partition("/")[2] for row in section.rows if row.subject]
    assert doubtful_subjects(names, DatasetSettings(layout=section.layout).subjects) == ()


def test_own_collections_take_their_files_before_those_of_the_layout(tmp_path: Path) -> None:
    for layout, names in (("totalsegmentator", {"liver", "segmentations", "ct"}), ("nnunet", {"t2", "adc"})):
        section, folder = SECTIONS[layout], tmp_path / layout
        make(section, folder)
        (folder / "dataset.yaml").write_text(section.examples[1], encoding="utf-8")
        code, report = run(folder, "ingest", section.command[2], "--dataset", "dataset.yaml")
        assert code == 0
        found = {item["collection"] for item in report["series"]}
        assert names <= found
        assert not {"channel_0000", "channel_0001"} & found
        obs = RadiObject(str(folder / "store")).collection("labels" if layout == "nnunet" else "liver").obs
        assert set(obs.read()["labels_of_collection"]) == {"t2" if layout == "nnunet" else "ct"}


def test_a_mask_of_a_structure_is_named_in_obs_and_an_empty_one_is_kept(tmp_path: Path) -> None:
    section = SECTIONS["totalsegmentator"]
    make(section, tmp_path)
    absent = tmp_path / "Totalsegmentator_dataset/s0001/segmentations/prostate.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.uint8), np.eye(4)), absent)
    code, _ = run(tmp_path, *section.command[1:])
    assert code == 0
    store = RadiObject(str(tmp_path / "store"))
    obs = store.collection("segmentations").obs.read()
    told = sorted(
        (row["obs_subject_id"], json.loads(row["segments"])[0]["label"]) for row in obs.to_dict("records")
    )
    assert told == [
        ("s0001", "liver"),
        ("s0001", "lung_upper_lobe_left"),
        ("s0001", "prostate"),
        ("s0002", "liver"),
        ("s0002", "lung_upper_lobe_left"),
    ]
    ages = store.obs_meta.read().set_index("obs_subject_id")["age"]
    assert ages["s0001"] == 54


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--layout", "bidz"], "there are bids, nnunet"),
        (["--layout", "bids", "--dataset", "dataset.yaml"], "write `layout: bids` into dataset.yaml"),
        (["--layout", "bids"], "say where to: --store"),
    ],
)
def test_a_layout_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "in").mkdir()
    store = [] if told.startswith("say") else ["--store", "store"]
    done = subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "ingest", "in", *store, *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_layout_that_does_not_exist_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "dataset.yaml"
    file.write_text("name: t\nlayout: decathlom\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"dataset.yaml:2: layout: .*'decathlon'"):
        load_dataset(file)


def test_a_mistake_in_a_collection_is_told_also_beside_a_layout(tmp_path: Path) -> None:
    file = tmp_path / "dataset.yaml"
    file.write_text("layout: decathlon\ncollections:\n  image: {tyle: axial}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"dataset.yaml:3: collections.image.tyle: unknown key"):
        load_dataset(file)
