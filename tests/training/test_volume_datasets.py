"""Items straight from volumes: the right voxels of the right subject, and new patches every epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from array_source import expected_patch
from truth_store import AFFINE

from radiobject_assets.errors import AlignmentError, ConfigurationError, ShapeError
from radiobject_assets.store import RadiObject
from radiobject_assets.training import (
    DatasetConfig,
    LoadingMode,
    SegmentationDataset,
    VolumeCollectionDataset,
    create_inference_dataloader,
)

PATCH = DatasetConfig(loading_mode=LoadingMode.PATCH, patch_size=(9, 8, 7), patches_per_volume=3)


@pytest.fixture
def modalities(make_store):
    """Two modalities whose obs ids sort in opposite orders, so that positions and subjects disagree."""
    store = make_store()
    rng = np.random.default_rng(0)
    for number in range(4):
        for name, obs_id in (("t1w", f"{number}_t1w"), ("flair", f"{9 - number}_flair")):
            voxels = rng.integers(0, 1000, (12, 11, 10)).astype(np.int16)
            store.add(name, obs_id, f"s{3 - number}", voxels, grade=str(number))
    return store


def items(dataset):
    return [dataset[i] for i in range(len(dataset))]


def test_whole_volumes_come_in_physical_units_as_float32(cohort):
    dataset = VolumeCollectionDataset(RadiObject(cohort.uri).ct)
    assert (len(dataset), dataset.n_channels, dataset.n_volumes) == (3, 1, 3)
    assert dataset.volume_shape == (30, 26, 21)
    for item in items(dataset):
        assert item["image"].dtype == torch.float32
        assert np.array_equal(item["image"][0].numpy(), cohort.physical(item["obs_id"]))
    assert [item["idx"] for item in items(dataset)] == [0, 1, 2]


def test_channels_are_paired_by_subject_not_by_position(modalities):
    radi = RadiObject(modalities.uri)
    dataset = VolumeCollectionDataset([radi.t1w, radi.flair])
    assert dataset.collection_names == ["t1w", "flair"]
    flair_of = dict(zip(radi.flair.obs_subject_ids, radi.flair.obs_ids, strict=True))
    for item in items(dataset):
        assert item["image"].shape == (2, 12, 11, 10)
        assert np.array_equal(item["image"][0].numpy(), modalities.physical(item["obs_id"]))
        partner = modalities.physical(flair_of[item["obs_subject_id"]])
        assert np.array_equal(item["image"][1].numpy(), partner)


def test_modalities_chooses_and_orders_channels(modalities):
    radi = RadiObject(modalities.uri)
    dataset = VolumeCollectionDataset([radi.t1w, radi.flair], DatasetConfig(modalities=["flair"]))
    assert dataset.collection_names == ["flair"]
    with pytest.raises(ConfigurationError, match="pet"):
        VolumeCollectionDataset([radi.t1w], DatasetConfig(modalities=["pet"]))
    with pytest.raises(ConfigurationError, match="At least one collection"):
        VolumeCollectionDataset([])


def test_views_give_their_own_subjects(modalities):
    view = RadiObject(modalities.uri).loc[["s2", "s0"]]
    dataset = VolumeCollectionDataset([view.flair, view.t1w])
    assert {item["obs_subject_id"] for item in items(dataset)} == {"s0", "s2"}
    for item in items(dataset):
        assert np.array_equal(item["image"][0].numpy(), modalities.physical(item["obs_id"]))


def test_a_filter_leaves_out_subjects_of_all_modalities(modalities):
    radi = RadiObject(modalities.uri)
    dataset = VolumeCollectionDataset([radi.t1w, radi.flair], DatasetConfig(value_filter="grade != '2'"))
    assert [item["obs_subject_id"] for item in items(dataset)] == ["s0", "s2", "s3"]


def test_collections_that_do_not_correspond_are_refused(modalities):
    radi = RadiObject(modalities.uri)
    with pytest.raises(AlignmentError, match="has 3 volumes, expected 4"):
        VolumeCollectionDataset([radi.t1w, radi.flair.head(3)])
    with pytest.raises(AlignmentError, match="Subject mismatch"):
        VolumeCollectionDataset([radi.t1w.head(2), radi.flair.tail(2)])
    modalities.add("t1w", "again", "s0", np.zeros((12, 11, 10), np.int16))
    modalities.add("flair", "again_too", "s0", np.zeros((12, 11, 10), np.int16))
    radi = RadiObject(modalities.uri)
    with pytest.raises(AlignmentError, match="1 subjects have several volumes"):
        VolumeCollectionDataset([radi.t1w, radi.flair])


def test_channels_on_different_grids_are_refused(make_store):
    store = make_store()
    moved = AFFINE.copy()
    moved[0, 3] += 5
    store.add("a", "1", "s", np.zeros((5, 5, 5), np.int16))
    store.add("b", "2", "s", np.zeros((5, 5, 5), np.int16), affine=moved)
    radi = RadiObject(store.uri)
    with pytest.raises(AlignmentError, match=r"'a' and 'b'.*mm apart"):
        VolumeCollectionDataset([radi.a, radi.b])


def test_patches_are_boxes_of_their_volume(cohort):
    dataset = VolumeCollectionDataset(RadiObject(cohort.uri).ct, PATCH)
    assert len(dataset) == 9
    for number, item in enumerate(items(dataset)):
        assert (item["idx"], item["patch_idx"]) == divmod(number, 3)
        expected = expected_patch(cohort.physical(item["obs_id"]), item["patch_start"], (9, 8, 7), 0)
        assert np.array_equal(item["image"][0].numpy(), expected)


def test_patches_larger_than_the_volume_are_padded_with_its_minimum(make_store):
    store = make_store()
    store.add_subject(1, shape=(12, 6, 3))
    store.add_subject(2, shape=(4, 20, 9))
    dataset = VolumeCollectionDataset(RadiObject(store.uri).ct, PATCH)
    assert dataset.volume_shape is None
    for item in items(dataset):
        voxels = store.physical(item["obs_id"])
        expected = expected_patch(voxels, item["patch_start"], (9, 8, 7), voxels.min())
        assert np.array_equal(item["image"][0].numpy(), expected)


def places(dataset):
    return [item["patch_start"] for item in items(dataset)]


def test_every_epoch_has_other_patches_and_an_epoch_can_be_repeated(cohort):
    first, second = (VolumeCollectionDataset(RadiObject(cohort.uri).ct, PATCH) for _ in range(2))
    epochs = [places(first) for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for epoch in (2, 0, 2):
        second.set_epoch(epoch)
        assert places(second) == places(second) == epochs[epoch]
    seeded = VolumeCollectionDataset(RadiObject(cohort.uri).ct, PATCH.model_copy(update={"seed": 5}))
    assert places(seeded) != epochs[0]


@pytest.mark.parametrize(
    ("orientation", "axis", "count"), [("axial", 2, 21), ("coronal", 1, 26), ("sagittal", 0, 30)]
)
def test_slices_of_every_orientation(cohort, orientation, axis, count):
    config = DatasetConfig(loading_mode=LoadingMode.SLICE_2D, slice_orientation=orientation)
    dataset = VolumeCollectionDataset(RadiObject(cohort.uri).ct, config)
    assert len(dataset) == 3 * count
    for number in (0, count - 1, count, 3 * count - 1):
        item = dataset[number]
        assert (item["idx"], item["slice_idx"]) == divmod(number, count)
        expected = np.take(cohort.physical(item["obs_id"]), item["slice_idx"], axis=axis)
        assert np.array_equal(item["image"][0].numpy(), expected)


def test_volumes_of_different_depth_give_all_their_slices(make_store):
    store = make_store()
    store.add_subject(1, shape=(12, 13, 9))
    store.add_subject(2, shape=(12, 13, 11))
    dataset = VolumeCollectionDataset(
        RadiObject(store.uri).ct, DatasetConfig(loading_mode=LoadingMode.SLICE_2D)
    )
    assert [item["idx"] for item in items(dataset)] == [0] * 9 + [1] * 11
    assert dataset.has_uniform_items


def test_4d_volumes_whole_and_by_patch(make_store):
    store = make_store()
    voxels = np.arange(6 * 5 * 4 * 3, dtype=np.int16).reshape(6, 5, 4, 3)
    store.add("bold", "b", "s", voxels)
    bold = RadiObject(store.uri).bold
    assert np.array_equal(VolumeCollectionDataset(bold)[0]["image"][0].numpy(), voxels)
    config = DatasetConfig(loading_mode=LoadingMode.PATCH, patch_size=(2, 2, 2), patches_per_volume=20)
    firsts = [item["image"][0, 0, 0, 0].item() for item in items(VolumeCollectionDataset(bold, config))]
    assert {int(value) % 3 for value in firsts} == {0, 1, 2}
    with pytest.raises(ShapeError, match="set `point` of DatasetConfig"):
        VolumeCollectionDataset(bold, DatasetConfig(loading_mode=LoadingMode.SLICE_2D))


def test_negative_and_out_of_range_items(cohort):
    dataset = VolumeCollectionDataset(RadiObject(cohort.uri).ct)
    assert dataset[-1]["obs_id"] == "sub-3_ct"
    with pytest.raises(IndexError):
        dataset[3]


GRADES = {"0_t1w": 5, "1_t1w": 6, "2_t1w": 7, "3_t1w": 8}


@pytest.mark.parametrize(
    "labels",
    [
        GRADES,
        {"s3": 5, "s2": 6, "s1": 7, "s0": 8},
        pd.DataFrame({"obs_id": list(GRADES), "grade": list(GRADES.values())}),
        pd.DataFrame({"grade": list(GRADES.values())}, index=pd.Index(list(GRADES), name="obs_id")),
        lambda obs_id: GRADES[obs_id],
    ],
)
def test_labels_of_every_kind_follow_their_volume(modalities, labels):
    dataset = VolumeCollectionDataset(RadiObject(modalities.uri).t1w, labels=labels)
    for item in items(dataset):
        assert item["label"] == torch.tensor(GRADES[item["obs_id"]])


def test_a_label_column_of_obs(modalities):
    t1w = RadiObject(modalities.uri).t1w
    for dataset in (
        VolumeCollectionDataset(t1w, labels="grade"),
        VolumeCollectionDataset(t1w, DatasetConfig(label_column="grade")),
    ):
        assert {item["obs_id"]: item["label"] for item in items(dataset)} == {
            f"{n}_t1w": str(n) for n in range(4)
        }
    with pytest.raises(ConfigurationError, match="Label column 'age' not found"):
        VolumeCollectionDataset(t1w, labels="age")


def test_a_volume_without_a_label_is_refused(modalities):
    with pytest.raises(AlignmentError, match="3 of 4 volumes of 't1w' have no label"):
        VolumeCollectionDataset(RadiObject(modalities.uri).t1w, labels={"0_t1w": 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loading_mode": "patch"}, "patch_size required"),
        ({"patches_per_volume": 0}, "patches_per_volume must be >= 1"),
        ({"patch_size": (4, 0, 4)}, "at least 1"),
        ({"slice_orientation": "isotropic"}, "axial, sagittal or coronal"),
    ],
)
def test_wrong_configurations_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DatasetConfig(**settings)


def test_masks_belong_to_their_image_and_are_cut_at_its_place(cohort):
    radi = RadiObject(cohort.uri)
    whole = SegmentationDataset(radi.ct, radi.seg)
    for item in items(whole):
        mask = cohort.stored[item["obs_id"].replace("_ct", "_seg")]
        assert np.array_equal(item["mask"][0].numpy(), mask)
        assert item["mask"].dtype == torch.uint8
    for item in items(SegmentationDataset(radi.ct, radi.seg, PATCH)):
        start = item["patch_start"]
        mask = cohort.stored[item["obs_id"].replace("_ct", "_seg")]
        assert np.array_equal(
            item["image"][0].numpy(), expected_patch(cohort.physical(item["obs_id"]), start, (9, 8, 7), 0)
        )
        assert np.array_equal(item["mask"][0].numpy(), expected_patch(mask, start, (9, 8, 7), 0))


def test_mask_slices_match_image_slices(cohort):
    radi = RadiObject(cohort.uri)
    dataset = SegmentationDataset(radi.ct, radi.seg, DatasetConfig(loading_mode=LoadingMode.SLICE_2D))
    item = dataset[21 + 6]
    assert (item["obs_id"], item["slice_idx"]) == ("sub-2_ct", 6)
    assert np.array_equal(item["mask"][0].numpy(), cohort.stored["sub-2_seg"][:, :, 6])


def test_foreground_patches_hold_labels_and_differ_between_epochs(cohort):
    radi = RadiObject(cohort.uri)
    dataset = SegmentationDataset(radi.ct, radi.seg, PATCH, foreground_sampling=True)
    epochs = []
    for _ in range(2):
        epoch = items(dataset)
        assert all(item["mask"].any() for item in epoch)
        epochs.append([item["patch_start"] for item in epoch])
    assert epochs[0] != epochs[1]


def test_a_foreground_threshold_is_tried_for(cohort):
    radi = RadiObject(cohort.uri)
    config = PATCH.model_copy(update={"patches_per_volume": 10})

    def share(threshold):
        dataset = SegmentationDataset(
            radi.ct, radi.seg, config, foreground_sampling=True, foreground_threshold=threshold
        )
        dataset.set_epoch(0)
        return np.mean([(item["mask"] > 0).float().mean().item() for item in items(dataset)])

    assert share(1.0) > share(0.0)


def test_a_mask_without_foreground_gives_ordinary_patches(make_store):
    store = make_store()
    store.add("ct", "a", "s", np.zeros((12, 12, 12), np.int16))
    store.add("seg", "b", "s", np.zeros((12, 12, 12), np.uint8), kind="labels")
    radi = RadiObject(store.uri)
    dataset = SegmentationDataset(
        radi.ct, radi.seg, PATCH, foreground_sampling=True, foreground_threshold=0.5
    )
    assert len({item["patch_start"] for item in items(dataset)}) == 3


def test_images_without_a_fitting_mask_are_refused(cohort):
    radi = RadiObject(cohort.uri)
    with pytest.raises(AlignmentError, match=r"1 of 3 images .*leave_out_unmatched=True"):
        SegmentationDataset(radi.ct, radi.seg.head(2))
    some = SegmentationDataset(radi.ct, radi.seg.head(2), leave_out_unmatched=True)
    assert [item["obs_id"] for item in items(some)] == ["sub-1_ct", "sub-2_ct"]
    assert [(left.obs_id, left.reason) for left in some.left_out] == [("sub-3_ct", "no_labels")]
    with pytest.raises(AlignmentError, match="'seg' holds labels, which are no image"):
        VolumeCollectionDataset([radi.ct, radi.seg])
    with pytest.raises(AlignmentError, match="'seg' holds labels, which are no image"):
        create_inference_dataloader(radi.seg)
    with pytest.raises(AlignmentError, match=r"1 of 2 images .*1 no_labels"):
        SegmentationDataset(radi.ct.head(2), radi.seg.tail(2))


def test_transforms_run_in_their_order(cohort):
    radi = RadiObject(cohort.uri)
    calls = []

    def step(name):
        def transform(item):
            calls.append(name)
            return item

        return transform

    dataset = SegmentationDataset(
        radi.ct,
        radi.seg,
        transform=step("last"),
        image_transform=step("image"),
        spatial_transform=step("space"),
    )
    _ = dataset[0]
    assert calls == ["space", "image", "last"]


def test_torchio_subjects_carry_affines_and_label_maps(cohort):
    tio = pytest.importorskip("torchio")
    from radiobject_assets.training import VolumeCollectionSubjectsDataset

    radi = RadiObject(cohort.uri)
    dataset = VolumeCollectionSubjectsDataset([radi.ct, radi.seg], labels=lambda obs_id: obs_id)
    assert (len(dataset), dataset.collection_names) == (3, ["ct", "seg"])
    for index, number in enumerate((1, 2, 3)):
        subject = dataset[index]
        assert isinstance(subject["seg"], tio.LabelMap)
        assert np.array_equal(subject["ct"].data[0].numpy(), cohort.physical(f"sub-{number}_ct"))
        assert np.array_equal(subject["seg"].data[0].numpy(), cohort.stored[f"sub-{number}_seg"])
        assert np.allclose(subject["ct"].affine, AFFINE)
        assert subject["label"] == f"sub-{number}_ct"
    queue = tio.Queue(dataset, max_length=6, samples_per_volume=2, sampler=tio.UniformSampler(8))
    patches = [patch for batch in tio.SubjectsLoader(queue, batch_size=2) for patch in batch["ct"][tio.DATA]]
    assert len(patches) == len(queue) == 6


def test_monai_transforms_fit(cohort):
    transforms = pytest.importorskip("monai.transforms")
    radi = RadiObject(cohort.uri)
    compose = transforms.Compose(
        [
            transforms.RandFlipd(keys=["image", "mask"], prob=1.0, spatial_axis=0),
            transforms.NormalizeIntensityd("image"),
        ]
    )
    item = SegmentationDataset(radi.ct, radi.seg, transform=compose)[0]
    assert np.array_equal(item["mask"][0].numpy(), cohort.stored["sub-1_seg"][::-1])
    assert abs(float(item["image"].mean())) < 1e-3
