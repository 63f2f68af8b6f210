"""Integrity rules, read amplification and pictures: what they see, and what they leave alone."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.diagnostics.integrity_rules import (
    check_collections,
    geometry_is_sound,
    labels_on_image_grid,
)
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.read_performance import measure_reads, read_amplification
from radiobject_assets.diagnostics.rule_registry import RULES, Inspection, Surroundings
from radiobject_assets.diagnostics.volume_pictures import picture
from radiobject_assets.store import (
    RadiObject,
    commit_volumes,
    create_snapshot,
    ensure_collection,
    ensure_store,
    stage_volume,
)

AFFINE = np.array([[1.5, 0, 0, -20], [0, 1.5, 0, -30], [0, 0, 3.0, 5], [0, 0, 0, 1]])


@pytest.fixture
def store(tmp_path: Path) -> str:
    """One CT of 24 x 20 x 12 voxels and labels on its grid."""
    uri = str(tmp_path / "store")
    ensure_store(uri)
    random = np.random.default_rng(5)
    image = random.integers(-1000, 1000, (24, 20, 12), dtype=np.int16)
    add(uri, "ct", "p_ct", image, AFFINE)
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[4:9, 5:10, 2:6] = 1
    add(uri, "seg", "p_seg", labels, AFFINE, kind="labels", labels_of="p_ct", labels_of_collection="ct")
    return uri


def add(
    uri: str, collection: str, obs_id: str, voxels: np.ndarray, affine: np.ndarray, **attributes: str
) -> None:
    where = ensure_collection(uri, collection)
    staged = stage_volume(
        where,
        obs_id=obs_id,
        obs_subject_id="p",
        shape=voxels.shape,
        dtype=voxels.dtype,
        affine=affine,
        slabs=[(0, 0, voxels)],
        attributes={"kind": "image", "arrival": "a", **attributes},
    )
    commit_volumes(where, [staged])


def rows_of(store: str, collection: str) -> pd.DataFrame:
    return read_inventory(store, collections=[collection])


def test_a_sound_store_has_no_findings(store: str) -> None:
    report = check_collections(store, None, arrivals=["a"])
    assert report.is_sound
    assert report.n_volumes == 2


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("affine_00", np.nan, "not finite"),
        ("affine_22", np.inf, "not finite"),
        ("spacing_z_mm", 0.0, "not positive"),
        ("spacing_x_mm", -1.5, "not positive"),
        ("affine_22", 0.0, "plane"),
        ("spacing_y_mm", 2.0, "not that of the affine"),
    ],
)
def test_unsound_geometry_is_named(store: str, column: str, value: float, problem: str) -> None:
    rows = rows_of(store, "ct").assign(**{column: value})
    (finding,) = geometry_is_sound(rows)
    assert problem in finding.problem
    assert finding.what_to_do


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("labels_of", "nobody", "not in the store"),
        ("obs_subject_id", "someone else", "another subject"),
        ("size_z", 11, "shape"),
        ("affine_03", -19.0, "away from the image's grid"),
        ("affine_00", -1.5, "away from the image's grid"),
    ],
)
def test_labels_off_their_image_are_named(store: str, column: str, value: object, problem: str) -> None:
    labels = rows_of(store, "seg").assign(**{column: value})
    (finding,) = labels_on_image_grid(labels, rows_of(store, "ct"))
    assert problem in finding.problem
    assert "p_seg" not in finding.problem


def test_what_came_long_ago_and_is_in_no_snapshot_is_told(store: str) -> None:
    rule = next(rule for rule in RULES if rule.name == "snapshot_is_current")

    def told(snapshot: str | None, due_s: float = -60.0) -> Report:
        beside = Surroundings(snapshot_due_s=due_s)
        return rule.look(Inspection(store, snapshot=snapshot, surroundings=beside), "dataset")

    (none_yet,) = told(None).findings
    assert "2 of 2" in none_yet.evidence
    create_snapshot(store, "first")
    assert told("first").is_sound
    add(store, "ct", "p_late", np.zeros((4, 4, 4), np.int16), AFFINE)
    (behind,) = told("first").findings
    assert "1 of 3" in behind.evidence
    assert "p_late" not in str(behind.to_json())
    assert "Materialize dataset" in behind.what_to_do
    assert told("first", due_s=600.0).is_sound  # it has only just come
    create_snapshot(store, "second")
    assert told("second").is_sound


@given(
    patch=st.integers(1, 9), tile=st.integers(1, 7), tiles=st.integers(2, 4)
)  # whole tiles: the formula is an average over all places of an endless axis
def test_amplification_is_what_counting_tiles_gives(patch: int, tile: int, tiles: int) -> None:
    touched = [len({(start + i) // tile for i in range(patch)}) * tile for start in range(tile)]
    counted = float(np.mean(touched)) / patch
    size = tile * (tiles + patch)
    assert read_amplification([patch] * 3, [tile] * 3, [size] * 3) == pytest.approx(counted**3)


def test_whole_slices_are_named_as_slow_for_small_patches_and_cubes_are_not() -> None:
    assert read_amplification((64, 64, 64), (512, 512, 1), (512, 512, 300)) == pytest.approx(64)
    assert read_amplification((64, 64, 64), (64, 64, 32), (512, 512, 300)) < 8


def test_reads_are_measured_on_real_volumes(store: str) -> None:
    measured = measure_reads(store, "ct", patch_voxels=(8, 8, 8), samples=3)
    assert measured.n_volumes == 1
    assert measured.patch_ms > 0
    assert measured.mb_per_s > 0


def test_a_picture_does_not_depend_on_how_the_axes_are_stored(store: str) -> None:
    image = np.zeros((24, 20, 12), dtype=np.int16)
    image[3:9, 2:7, 1:4] = 500
    add(store, "mr", "ras", image, AFFINE)
    for number, (order, flips) in enumerate(
        itertools.product([(0, 1, 2), (2, 0, 1)], [(False, False, False), (True, True, False)])
    ):
        turned, affine = _turned(image, AFFINE, order, flips)
        add(store, "mr", f"turned-{number}", turned, affine)
    collection = RadiObject(store).collection("mr")
    shown = {obs_id: _pixels(picture(collection.loc[obs_id])) for obs_id in collection.obs_ids}
    for obs_id, pixels in shown.items():
        # the middle of an even axis is another voxel once the axis is flipped: compare loosely
        assert pixels.shape == shown["ras"].shape
        assert np.abs(pixels - shown["ras"]).mean() < 8, obs_id


def _turned(
    voxels: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[np.ndarray, np.ndarray]:
    turned = voxels.transpose(order)
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, old in enumerate(order):
        to_old[old, new] = -1 if flips[new] else 1
        if flips[new]:
            turned = np.flip(turned, axis=new)
            to_old[old, 3] = voxels.shape[old] - 1
    return np.ascontiguousarray(turned), affine @ to_old


def _pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=np.float64)
