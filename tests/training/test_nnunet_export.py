"""A store as a data set of nnU-Net v2, read back by nibabel, and judged by nnU-Net where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from truth_store import TruthStore
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.export.nnunet_layout import NnunetExport, export_nnunet
from radiobject_assets.store import delete_subjects

STRAIGHT = np.array([[-0.8, 0, 0, 100.0], [0, -0.8, 0, 80.0], [0, 0, 2.5, -300.0], [0, 0, 0, 1]])
SPLITS = {"sub-1": "train", "sub-2": "validation", "sub-3": "test"}


def export(store: TruthStore, out: Path, **settings: Any) -> NnunetExport:
    settings = {"images": ["ct"], "labels": "seg", "name": "Known", "splits": SPLITS, **settings}
    return export_nnunet(store.uri, out, **settings)


def loaded(path: Path) -> tuple[Any, Any]:
    image: Any = nibabel.load(path)
    return image.get_fdata(), image.affine


def described(done: NnunetExport) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((done.folder / "dataset.json").read_text())
    return found


def test_images_and_labels_are_the_stores_on_one_grid(cohort: TruthStore, tmp_path: Path) -> None:
    done = export(cohort, tmp_path)
    assert (sorted(done.training), done.testing) == (["sub-1_ct", "sub-2_ct"], ["sub-3_ct"])
    assert done.left_out == []
    for case, part in (("sub-1", "Tr"), ("sub-2", "Tr"), ("sub-3", "Ts")):
        voxels, affine = loaded(done.folder / f"images{part}" / f"{case}_ct_0000.nii.gz")
        np.testing.assert_array_equal(voxels, cohort.physical(f"{case}_ct"))
        labels, labels_affine = loaded(done.folder / f"labels{part}" / f"{case}_ct.nii.gz")
        np.testing.assert_array_equal(labels, cohort.stored[f"{case}_seg"])
        np.testing.assert_allclose(labels_affine, affine)
    told = described(done)
    assert told["labels"] == {"background": 0, "value_1": 1, "value_2": 2, "value_3": 3}
    assert (told["numTraining"], told["file_ending"]) == (2, ".nii.gz")
    assert told["overwrite_image_reader_writer"] == "NibabelIO"  # these axes are sheared
    folds = json.loads(
        (tmp_path / "nnUNet_preprocessed" / done.folder.name / "splits_final.json").read_text()
    )
    assert folds == [{"train": ["sub-1_ct"], "val": ["sub-2_ct"]}]


def test_only_what_is_new_is_written_and_what_is_gone_is_removed(cohort: TruthStore, tmp_path: Path) -> None:
    assert export(cohort, tmp_path).n_written == 6
    assert export(cohort, tmp_path).n_written == 0
    cohort.add_subject(7)
    assert export(cohort, tmp_path).n_written == 2
    delete_subjects(cohort.uri, ["sub-1"])
    done = export(cohort, tmp_path)
    assert done.n_written == 0
    assert not list(done.folder.rglob("sub-1*"))
    assert "sub-1" not in (done.folder / "radiobject-assets.json").read_text()
    damaged = done.folder / "imagesTr" / "sub-2_ct_0000.nii.gz"
    damaged.write_bytes(b"short")
    assert export(cohort, tmp_path).n_written == 1
    assert loaded(damaged)[0].shape == (30, 26, 21)


def test_one_name_is_one_number_however_cases_number_it(
    make_store: Callable[[], TruthStore], tmp_path: Path
) -> None:
    store = make_store()
    rng = np.random.default_rng(5)
    numbers = {"a": {5: "liver", 2: "spleen"}, "b": {1: "spleen", 9: "liver"}, "c": {3: "kidney"}}
    for subject, names in numbers.items():
        voxels = rng.choice([0, *names], (12, 10, 8)).astype(np.uint8)
        store.add("mr", f"{subject}_mr", subject, rng.integers(0, 99, (12, 10, 8)).astype(np.int16),
                  affine=STRAIGHT)  # fmt: skip
        segments = json.dumps([{"value": value, "label": name} for value, name in names.items()])
        store.add("seg", f"{subject}_seg", subject, voxels, affine=STRAIGHT, kind="labels",
                  labels_of=f"{subject}_mr", segments=segments)  # fmt: skip
    done = export(store, tmp_path, images=["mr"], splits=None)
    classes = described(done)["labels"]
    assert list(classes) == ["background", "kidney", "liver", "spleen"]
    assert "overwrite_image_reader_writer" not in described(done)
    for subject, names in numbers.items():
        found = loaded(done.folder / "labelsTr" / f"{subject}_mr.nii.gz")[0]
        for value, name in names.items():
            np.testing.assert_array_equal(found == classes[name], store.stored[f"{subject}_seg"] == value)
    # a new class comes last: what was written stays
    segments = json.dumps([{"value": 1, "label": "aorta"}])
    store.add("mr", "d_mr", "d", np.ones((12, 10, 8), np.int16), affine=STRAIGHT)
    store.add("seg", "d_seg", "d", np.ones((12, 10, 8), np.uint8), affine=STRAIGHT, kind="labels",
              labels_of="d_mr", segments=segments)  # fmt: skip
    again = export(store, tmp_path, images=["mr"], splits=None)
    assert again.n_written == 2
    assert described(again)["labels"] == {**classes, "aorta": 4}


def test_channels_of_one_grid_belong_together_and_others_are_left_out(
    make_store: Callable[[], TruthStore], tmp_path: Path
) -> None:
    store = make_store()
    moved = STRAIGHT + np.array([[0, 0, 0, 3.0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    for number, (subject, other) in enumerate({"a": STRAIGHT, "b": STRAIGHT, "c": moved}.items()):
        for name, affine in (("t1", STRAIGHT), ("zscore", other)):
            voxels = np.full((8, 8, 4), number + len(name), np.float32)
            if (subject, name) == ("b", "t1"):
                voxels[1, 2, 3] = np.nan
            store.add(name, f"{subject}_{name}", subject, voxels, affine=affine)
        store.add("seg", f"{subject}_seg", subject, np.eye(8, dtype=np.uint8)[..., None].repeat(4, 2),
                  affine=STRAIGHT, kind="labels", labels_of=f"{subject}_t1")  # fmt: skip
    store.add("t1", "d_t1", "d", np.zeros((8, 8, 4), np.float32), affine=STRAIGHT)
    done = export(store, tmp_path, images=["t1", "zscore"], splits={})
    assert done.training == ["a_t1"]
    assert {obs_id for obs_id, _ in done.left_out} == {"b_t1", "c_t1", "d_t1"}
    assert sorted(path.name for path in (done.folder / "imagesTr").iterdir()) == [
        "a_t1_0000.nii.gz",
        "a_t1_0001.nii.gz",
    ]
    # a name that nnU-Net reads as a way to normalise
    assert described(done)["channel_names"] == {"0": "t1", "1": "zscore_image"}
    assert not (tmp_path / "nnUNet_preprocessed").exists()


def test_folds_are_ours(cohort: TruthStore, tmp_path: Path) -> None:
    done = export(cohort, tmp_path, splits={"sub-1": "fold_0", "sub-2": "fold_1", "sub-3": "fold_1"})
    folds = json.loads(
        (tmp_path / "nnUNet_preprocessed" / done.folder.name / "splits_final.json").read_text()
    )
    assert folds == [
        {"train": ["sub-2_ct", "sub-3_ct"], "val": ["sub-1_ct"]},
        {"train": ["sub-1_ct"], "val": ["sub-2_ct", "sub-3_ct"]},
    ]


def test_what_can_be_no_data_set_is_refused(cohort: TruthStore, tmp_path: Path) -> None:
    for settings, words in (
        ({"images": ["mr"]}, "no collection 'mr'; there are: ct, seg"),
        ({"images": ["seg"]}, "holds labels, not images"),
        ({"labels": "ct"}, "not labels"),
        ({"name": "two words"}, "use letters and digits"),
        ({"splits": dict.fromkeys(SPLITS, "test")}, "has labels in seg to train on"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            export(cohort, tmp_path, **settings)
    said = CliRunner().invoke(app, ["export", cohort.uri, str(tmp_path), "--format", "nnunet"])
    assert said.exit_code != 0


def test_the_command_says_what_became_of_each_image(cohort: TruthStore, tmp_path: Path) -> None:
    cohort.add("ct", "sub-9_ct", "sub-9", np.zeros((9, 9, 9), np.int16))
    command = [
        "export",
        cohort.uri,
        str(tmp_path),
        "--format",
        "nnunet",
        "--collection",
        "ct",
        "--labels",
        "seg",
    ]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 1, "one image was left out"
    told = json.loads(done.stdout)
    assert (len(told["training"]), told["files_written"]) == (3, 6)
    assert [one["obs_id"] for one in told["left_out"]] == ["sub-9_ct"]


@pytest.mark.slow
def test_nnunet_itself_finds_nothing_to_say(cohort: TruthStore, tmp_path: Path) -> None:
    if importlib.util.find_spec("nnunetv2") is None:
        pytest.skip("nnU-Net is not installed (pip install nnunetv2)")
    done = export(cohort, tmp_path)
    variables = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    program = (
        "import sys\n"
        "from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity\n"
        "if __name__ == '__main__': verify_dataset_integrity(sys.argv[1], 1)\n"
    )
    (tmp_path / "verify.py").write_text(program)
    judged = subprocess.run(
        [sys.executable, str(tmp_path / "verify.py"), str(done.folder)],
        env={**os.environ, **{one: str(tmp_path / one) for one in variables}},
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stderr
    assert "Error" not in judged.stdout
    assert "Warning" not in judged.stdout
