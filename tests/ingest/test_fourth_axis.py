"""The fourth axis of NIfTI images has a name and values, and training can ask for one of its points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.errors import AlignmentError
from radiobject_assets.ingest import IngestReport, ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.store.format.snapshots import create_snapshot
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training.cache.build import build_patch_cache
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.volumes.loading import DatasetConfig as LoadingConfig, LoadingMode
from radiobject_assets.training.volumes.segmentation_dataset import SegmentationDataset
from radiobject_assets.training.volumes.volume_dataset import VolumeCollectionDataset

SHAPE = (9, 8, 7)
CHANNELS = ["FLAIR", "T1w", "T1gd", "T2w"]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def save(path: Path, voxels: Any, units: str = "unknown", step: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.asarray(voxels), np.diag([-2.0, -2.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", units)
    if np.ndim(voxels) == 4:
        image.header["pixdim"][4] = step
    nib.save(image, path)


def case(folder: Path, name: str, n_points: int = 4) -> None:
    """An image whose voxels tell their channel, with its labels, in the folders of the Decathlon."""
    image = np.random.default_rng(len(name)).integers(1, 100, (*SHAPE, n_points)).astype(np.int16)
    save(folder / "imagesTr" / f"{name}.nii.gz", image + 1000 * np.arange(n_points, dtype=np.int16))
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 2:5, 2:4] = 1
    save(folder / "labelsTr" / f"{name}.nii.gz", labels)


def dataset(**image: Any) -> DatasetSettings:
    return DatasetSettings.model_validate(
        {
            "subjects": {"file_name": "(?P<subject>[A-Z]+_[0-9]+)"},
            "collections": {
                "mr": {"match": {"files": "imagesTr/*.nii.gz"}, **image},
                "seg": {"match": {"files": "labelsTr/*.nii.gz"}, "kind": "labels", "labels_of": "mr"},
            },
        }
    )


def ingest(source: Path, tmp_path: Path, config: DatasetSettings) -> IngestReport:
    return ingest_sources(
        [source], str(tmp_path / "store"), config, budget=MemoryBudget(256), compute=Compute(workers=1)
    )


def axis(tmp_path: Path, collection: str = "mr") -> list[tuple[Any, Any]]:
    obs = RadiObject(str(tmp_path / "store")).collection(collection).to_obs()
    if "fourth_axis_values" not in obs:
        obs["fourth_axis_values"] = None
    return [
        (name if isinstance(name, str) else None, json.loads(values) if isinstance(values, str) else None)
        for name, values in zip(obs["fourth_axis"], obs["fourth_axis_values"], strict=True)
    ]


def test_channels_are_named_by_the_collection_and_patches_of_one_can_be_asked_for(tmp_path: Path) -> None:
    case(tmp_path / "in", "BRATS_001")
    case(tmp_path / "in", "BRATS_002")
    config = dataset(fourth_axis={"name": "channel", "values": CHANNELS})
    assert not ingest(tmp_path / "in", tmp_path, config).quarantined_by_reason
    assert axis(tmp_path) == [("channel", CHANNELS)] * 2
    radi = RadiObject(str(tmp_path / "store"))
    assert set(radi.collection("seg").to_obs()["labels_of"]) == set(radi.collection("mr").obs_ids)
    create_snapshot(radi.uri, "one")
    settings = {"image": "mr", "labels": "seg", "size_voxels": (4, 4, 4), "per_volume": 6}
    for number, name in enumerate(CHANNELS):
        info = build_patch_cache(
            radi.uri,
            snapshot="one",
            subjects=["BRATS_001", "BRATS_002"],
            patches=PatchesConfig(**settings, point=name),
            out_dir=tmp_path / "cache",
            budget=MemoryBudget(64),
        )
        cache = PatchCache(info.path)
        assert len(cache) == 12
        for i in range(len(cache)):
            image, label, row = cache[i]
            x, y, z = row["start_x"], row["start_y"], row["start_z"]
            stored = radi.collection("mr")[row["obs_id"]].to_numpy()[..., number]
            assert np.array_equal(image, stored[x : x + 4, y : y + 4, z : z + 4])
            assert row["t"] == number
            assert label is not None
    info = build_patch_cache(
        radi.uri, snapshot="one", subjects=["BRATS_001"],
        patches=PatchesConfig(**settings, point="PD"), out_dir=tmp_path / "cache", budget=MemoryBudget(64),
        allow_empty=True,
    )  # fmt: skip
    assert (info.n_volumes, info.left_out_counts) == (0, {"no_such_point": 1})


def test_data_sets_of_volumes_load_the_channel_that_is_named(tmp_path: Path) -> None:
    case(tmp_path / "in", "BRATS_001")
    ingest(tmp_path / "in", tmp_path, dataset(fourth_axis={"name": "channel", "values": CHANNELS}))
    radi = RadiObject(str(tmp_path / "store"))
    images, masks = radi.collection("mr"), radi.collection("seg")
    (stored,) = images
    whole = VolumeCollectionDataset(images, LoadingConfig(point="T1gd"))
    assert whole.volume_shape == SHAPE
    assert np.array_equal(whole[0]["image"][0], stored.to_numpy()[..., 2])
    patches = LoadingConfig(
        point="T2w", loading_mode=LoadingMode.PATCH, patch_size=(4, 4, 4), patches_per_volume=5
    )
    for item in SegmentationDataset(images, masks, patches, foreground_sampling=True):
        x, y, z = item["patch_start"]
        assert np.array_equal(item["image"][0], stored.to_numpy()[x : x + 4, y : y + 4, z : z + 4, 3])
    planes = VolumeCollectionDataset(images, LoadingConfig(point="FLAIR", loading_mode=LoadingMode.SLICE_2D))
    assert len(planes) == SHAPE[2]
    assert np.array_equal(planes[3]["image"][0], stored.to_numpy()[:, :, 3, 0])
    with pytest.raises(AlignmentError, match="no point 'PD'"):
        VolumeCollectionDataset(images, LoadingConfig(point="PD"))


@pytest.mark.parametrize("key", ["modality", "channel_names"])
def test_a_dataset_json_with_a_name_for_each_channel_names_them(tmp_path: Path, key: str) -> None:
    case(tmp_path / "in", "BRATS_001")
    (tmp_path / "in" / "dataset.json").write_text(
        json.dumps({key: {str(i): n for i, n in enumerate(CHANNELS)}})
    )
    ingest(tmp_path / "in", tmp_path, dataset())
    assert axis(tmp_path) == [("channel", CHANNELS)]


@pytest.mark.parametrize(
    "names",
    [
        {"0": "MRI"},
        {"0": "A", "1": "A", "2": "B", "3": "C"},
        {"0": "John Smith 1234567", **dict(zip("123", "ABC", strict=True))},
    ],
)
def test_names_that_do_not_fit_or_may_name_somebody_are_not_taken(
    tmp_path: Path, names: dict[str, str]
) -> None:
    case(tmp_path / "in", "BRATS_001")
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"modality": names}))
    ingest(tmp_path / "in", tmp_path, dataset())
    assert axis(tmp_path) == [("unknown", None)]


def test_under_pseudonyms_only_known_words_name_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", "a secret that is long enough, 0123456789")
    case(tmp_path / "in", "BRATS_001")
    names = ["SMITHSON John", "T2w", "DWI b1000", "in phase"]
    told = {"channel_names": {str(i): n for i, n in enumerate(names)}}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps(told))
    content = dataset().model_dump(exclude_defaults=True)
    content["subjects"]["key"] = "pseudonym"
    ingest(tmp_path / "in", tmp_path, DatasetSettings.model_validate(content))
    assert axis(tmp_path) == [("channel", ["channel_0", *names[1:]])]


def test_time_is_told_by_its_unit_and_step_and_weights_by_their_sidecar(tmp_path: Path) -> None:
    voxels = np.ones((4, 5, 6, 3), np.int16)
    save(tmp_path / "in" / "imagesTr" / "A_1.nii.gz", voxels, "msec", 2500.0)
    save(tmp_path / "in" / "imagesTr" / "A_2.nii.gz", voxels, "sec", 0.0)
    save(tmp_path / "in" / "imagesTr" / "A_3.nii.gz", voxels)
    save(tmp_path / "in" / "imagesTr" / "A_4.nii.gz", voxels[..., 0])
    save(tmp_path / "in" / "imagesTr" / "A_5.nii.gz", voxels, "sec", 3.0)
    (tmp_path / "in" / "imagesTr" / "A_5.bval").write_text("0 1000 2000\n")
    ingest(tmp_path / "in", tmp_path, dataset())
    assert axis(tmp_path) == [
        ("time", [0, 2.5, 5]),
        ("unknown", None),
        ("unknown", None),
        (None, None),
        ("b_value", [0, 1000, 2000]),
    ]


def test_an_axis_of_another_length_than_the_data_set_says_is_a_reason(tmp_path: Path) -> None:
    case(tmp_path / "in", "BRATS_001", n_points=3)
    report = ingest(tmp_path / "in", tmp_path, dataset(fourth_axis={"name": "channel", "values": CHANNELS}))
    assert report.quarantined_by_reason["fourth_axis_differs"] == 1


def test_what_the_data_set_says_of_the_axis_is_said_of_volumes_that_are_there(tmp_path: Path) -> None:
    case(tmp_path / "in", "BRATS_001")
    ingest(tmp_path / "in", tmp_path, dataset())
    named = dataset(fourth_axis={"name": "channel", "values": CHANNELS})
    report = ingest(tmp_path / "in", tmp_path, named)
    assert sorted(outcome.status for outcome in report.outcomes) == ["unchanged", "updated"]
    assert axis(tmp_path) == [("channel", CHANNELS)]
    ingest(tmp_path / "in", tmp_path, dataset())
    assert axis(tmp_path) == [("unknown", None)]


@pytest.mark.parametrize(
    ("channels", "reasons"),
    [
        ("quarantine", {"labels_with_channels": 1}),
        ("one_hot", {}),
        ("one_hot_with_background", {"labels_with_channels": 1}),
    ],
)
def test_labels_with_channels_are_refused_unless_the_data_set_says_what_they_are(
    tmp_path: Path, channels: str, reasons: dict[str, int]
) -> None:
    case(tmp_path / "in", "A_1")
    truth = np.random.default_rng(0).integers(0, 4, SHAPE)
    hot = np.stack([truth == value for value in (1, 2, 3)], axis=-1).astype(np.uint8)
    save(tmp_path / "in" / "labelsTr" / "A_1.nii.gz", hot)
    config = dataset().model_dump()
    config["collections"]["seg"]["channels"] = channels
    report = ingest(tmp_path / "in", tmp_path, DatasetSettings.model_validate(config))
    assert report.quarantined_by_reason == reasons
    if not reasons:
        (labels,) = RadiObject(str(tmp_path / "store")).collection("seg")
        assert np.array_equal(labels.to_numpy(), truth)
        assert labels.dtype == np.uint8


def test_labels_of_each_time_point_stay_4d_where_the_image_says_time(tmp_path: Path) -> None:
    voxels = np.ones((4, 5, 6, 3), np.uint8)
    for folder in ("imagesTr", "labelsTr"):
        save(tmp_path / "in" / folder / "A_1.nii.gz", voxels, "sec", 2.0)
        save(tmp_path / "in" / folder / "A_2.nii.gz", voxels)
    report = ingest(tmp_path / "in", tmp_path, dataset())
    assert report.quarantined_by_reason == {"labels_with_channels": 1}
    (labels,) = RadiObject(str(tmp_path / "store")).collection("seg")
    assert labels.shape == (4, 5, 6, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "channel", "values": [1, 2]},
        {"name": "time", "values": ["a"]},
        {"name": "channel", "values": ["a", "a"]},
    ],
)
def test_values_that_do_not_fit_their_axis_are_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="values"):
        dataset(fourth_axis=wrong)


def test_a_decathlon_task_of_four_channels_is_stored_and_paired(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "cases" / "l16_layout_decathlon_4d"
    if not folder.is_dir():
        pytest.skip("the reported cases are not on this machine")
    config = load_dataset(folder / "dataset.yaml").model_copy(update={"folder": tmp_path})
    assert not ingest(folder / "input", tmp_path, config).quarantined_by_reason
    radi = RadiObject(str(tmp_path / "store"))
    assert radi.collection("seg").to_obs()["labels_of"].tolist() == list(radi.collection("ct").obs_ids)
