"""What MONAI and TorchIO are given knows its place: the same world as nibabel says."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from test_patch_cache import build
from torch.utils.data import DataLoader
from truth_store import TruthStore

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import RadiObject, ensure_store
from radiobject_assets.training import (
    DatasetConfig,
    LoadingMode,
    PatchCacheDataset,
    SegmentationDataset,
    VolumeCollectionDataset,
    create_inference_dataloader,
    create_segmentation_dataloader,
    patch_loader,
)

transforms = pytest.importorskip("monai.transforms")
SIZE = (9, 8, 7)
# oblique, flipped, and 0.8 x 0.8 x 1.5 mm
TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN @ np.diag([-0.8, 0.8, 1.5])
AFFINE[:3, 3] = (17.6, -12.8, 22.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("meta") / "store")
    ensure_store(uri)
    store = TruthStore(uri)
    rng = np.random.default_rng(0)
    for number in (1, 2):
        # an id with dots: savers take what follows the last one for an extension
        name = f"1.2.{number}"
        store.add("ct", name, f"s{number}", rng.integers(0, 99, (24, 22, 20)).astype(np.int16), affine=AFFINE)
        mask = np.zeros((24, 22, 20), np.uint8)
        mask[5:9, 6:9, 7:11] = number
        store.add("seg", f"{name}.m", f"s{number}", mask, affine=AFFINE, kind="labels", labels_of=name)
    return store


@pytest.fixture(scope="module")
def cache_path(store, tmp_path_factory):
    patches = PatchesConfig(image="ct", labels="seg", size_voxels=SIZE, per_volume=3)
    return build(store, tmp_path_factory.mktemp("meta-cache"), subjects=["s1", "s2"], patches=patches).path


def world(affine, voxel):
    return np.asarray(affine)[:3, :3] @ np.asarray(voxel) + np.asarray(affine)[:3, 3]


def assert_placed(image, store, obs_id):
    """Each voxel of a saved file is the voxel of the volume that lies at the same place in the world."""
    voxels, inverse = store.physical(obs_id), np.linalg.inv(AFFINE)
    values = np.asarray(image.dataobj)
    for voxel in np.ndindex(*values.shape):
        index = np.rint(world(inverse, world(image.affine, voxel))).astype(int)
        assert values[voxel] == voxels[tuple(index)]


def test_monai_resamples_volumes_to_the_spacing_that_is_asked_for(store):
    compose = transforms.Compose([transforms.Spacingd("image", pixdim=(1.6, 1.6, 1.5), mode="nearest")])
    item = VolumeCollectionDataset(RadiObject(store.uri).ct, transform=compose)[0]
    assert item["image"].shape[3] == 20
    assert all(11 <= extent <= 13 for extent in item["image"].shape[1:3])
    zooms = nibabel.affines.voxel_sizes(item["image"].affine.numpy())
    assert np.allclose(zooms, (1.6, 1.6, 1.5))
    oriented = transforms.Orientationd("image", axcodes="RAS")(item)["image"]
    assert nibabel.aff2axcodes(oriented.affine.numpy()) == ("R", "A", "S")


@pytest.mark.parametrize("from_cache", [True, False])
def test_patches_that_monai_saves_lie_where_their_volume_lies(store, cache_path, tmp_path, from_cache):
    keys = ("image", "label" if from_cache else "mask")
    save = transforms.SaveImaged(keys, output_dir=tmp_path, separate_folder=False, print_log=False)
    compose = transforms.Compose([save])
    if from_cache:
        dataset = PatchCacheDataset(cache_path, compose)
    else:
        config = DatasetConfig(loading_mode=LoadingMode.PATCH, patch_size=SIZE, patches_per_volume=3)
        radi = RadiObject(store.uri)
        dataset = SegmentationDataset(radi.ct, radi.seg, config, transform=compose)
    for number in range(len(dataset)):
        dataset[number]
    saved = sorted(tmp_path.glob("*.nii.gz"))
    assert len(saved) == 12, "two patches were saved under one name"
    for file in saved:
        assert_placed(nibabel.load(file), store, file.name.partition("_")[0])


def test_batches_of_meta_tensors_are_those_that_monai_makes(store, cache_path):
    from monai.data import DataLoader as MonaiLoader, decollate_batch

    loader = patch_loader(cache_path, batch_size=3, shuffle=False, as_meta=True)
    theirs = MonaiLoader(PatchCacheDataset(cache_path, as_meta=True), batch_size=3)
    torchs = DataLoader(PatchCacheDataset(cache_path, as_meta=True), batch_size=3)
    for ours, other, plain in zip(loader, theirs, torchs, strict=True):
        assert (plain["image"].affine == other["image"].affine).all()
        for name in ("image", "label"):
            assert (ours[name] == other[name]).all()
            assert (ours[name].affine == other[name].affine).all()
            assert set(ours[name].meta) == set(other[name].meta)
            one, its = decollate_batch(ours)[1][name], decollate_batch(other)[1][name]
            for key in one.meta:
                assert np.array_equal(one.meta[key], its.meta[key]), key
        flipped = transforms.Flipd(("image", "label"), spatial_axis=0)(decollate_batch(ours)[0])
        row = loader.cache.row(int(ours["index"][0]))
        last = world(loader.cache.affines([int(ours["index"][0])])[0], (SIZE[0] - 1, 0, 0))
        assert np.allclose(world(flipped["image"].affine, (0, 0, 0)), last), row


def test_loaders_over_volumes_give_batches_with_affines(store):
    radi = RadiObject(store.uri)
    flip = transforms.Compose([transforms.RandFlipd(("image", "mask"), prob=1.0, spatial_axis=1)])
    loader = create_segmentation_dataloader(
        radi.ct, radi.seg, batch_size=2, patch_size=SIZE, patches_per_volume=2, transform=flip
    )
    for batch in loader:
        for part, start in enumerate(zip(*(axis.tolist() for axis in batch["patch_start"]), strict=True)):
            first = world(AFFINE, np.add(start, (0, SIZE[1] - 1, 0)))
            for name in ("image", "mask"):
                assert np.allclose(world(batch[name].affine[part], (0, 0, 0)), first)
    (whole, _) = create_inference_dataloader(radi.ct, as_meta=True)
    assert np.allclose(whole["image"].affine[0], AFFINE)
    assert not hasattr(next(iter(create_inference_dataloader(radi.ct)))["image"], "affine")


def test_crops_of_a_pair_are_items_of_the_batch(store):
    radi = RadiObject(store.uri)
    crops = transforms.RandCropByPosNegLabeld(("image", "mask"), "mask", (6, 6, 6), num_samples=3)
    loader = create_segmentation_dataloader(radi.ct, radi.seg, batch_size=2, transform=crops)
    (batch,) = loader
    assert batch["image"].shape == batch["mask"].shape == (6, 1, 6, 6, 6)
    for image, affine, name in zip(batch["image"], batch["image"].affine, batch["obs_id"], strict=True):
        voxel = np.rint(world(np.linalg.inv(AFFINE), world(affine, (0, 0, 0)))).astype(int)
        assert image[0, 0, 0, 0] == store.physical(name)[tuple(voxel)]


def test_monai_where_it_would_work_on_the_wrong_axes_is_refused(store, cache_path, make_store):
    for transform in (transforms.RandFlipd("image"), transforms.Compose([])):
        with pytest.raises(ConfigurationError, match="PatchCacheDataset"):
            patch_loader(cache_path, transform=transform)
    slices = DatasetConfig(loading_mode=LoadingMode.SLICE_2D)
    radi = RadiObject(store.uri)
    with pytest.raises(ConfigurationError, match="slices have no affine"):
        SegmentationDataset(radi.ct, radi.seg, slices, as_meta=True)
    moving = make_store()
    moving.add("bold", "b", "s", np.zeros((5, 5, 5, 3), np.int16))
    with pytest.raises(ConfigurationError, match="fourth axis; set `point`"):
        VolumeCollectionDataset(RadiObject(moving.uri).bold, transform=transforms.Compose([]))


@pytest.mark.slow
def test_workers_give_the_same_affines(store):
    radi = RadiObject(store.uri)
    seen = []
    for workers in (0, 2):
        loader = create_segmentation_dataloader(
            radi.ct, radi.seg, batch_size=2, patch_size=SIZE, num_workers=workers, as_meta=True
        )
        seen.append([batch["image"].affine.numpy() for batch in loader])
    assert np.array_equal(*seen)
