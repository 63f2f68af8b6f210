"""Labels stored with other axes than their image's are turned onto them, voxel by voxel."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dcm2niix_reference import read_all
from hypothesis import given, settings, strategies as st

from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.labels.grid_difference import difference
from radiobject_assets.imaging.labels.turning import Turn, TurnedVoxels, turn_onto
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series

AFFINE = np.array([[-0.8, 0.1, 0.2, 10], [0.1, 0.9, 0.05, -20], [0.1, -0.05, 2.5, 30], [0, 0, 0, 1]])
TURNS = [Turn(axes, flips) for axes in permutations((0, 1, 2)) for flips in product((False, True), repeat=3)]
SHAPE = (4, 5, 6)


def stored(tmp_path: Path, turn: Turn, n_times: int, gzip: bool) -> tuple[Path, np.ndarray, Grid]:
    """A file of labels whose axes nibabel has turned, what they were before, and the grid of then."""
    truth = np.arange(np.prod(SHAPE) * n_times).reshape(*SHAPE, n_times).astype(np.uint16)
    image = nib.Nifti1Image(truth if n_times > 1 else truth[..., 0], AFFINE)
    ornt = [[axis, -1 if back else 1] for axis, back in zip(turn.axes, turn.backwards, strict=True)]
    path = tmp_path / f"turned.nii{'.gz' if gzip else ''}"
    nib.save(image.as_reoriented(np.array(ornt)), path)
    return path, truth, Grid(SHAPE, AFFINE)


@given(st.sampled_from(TURNS), st.integers(1, 3), st.integers(1, 8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_turn_that_nibabel_makes_is_undone_without_interpolation(
    tmp_path_factory: pytest.TempPathFactory, turn: Turn, n_times: int, depth: int, gzip: bool
) -> None:
    path, truth, grid = stored(tmp_path_factory.mktemp("turned"), turn, n_times, gzip)
    (series,) = build_series(scan([path]))
    source = open_series(series)
    own = Grid(source.shape[:3], source.affine)
    found = turn_onto(own, grid)
    assert found is not None
    turned = TurnedVoxels(source, found, grid)
    assert np.array_equal(read_all(turned, depth), truth)
    assert np.array_equal(turned.affine, AFFINE)
    assert turned.source_digest() == source.source_digest()


@given(
    st.sampled_from(TURNS),
    st.tuples(*[st.integers(2, 9)] * 3),
    st.tuples(*[st.floats(0.3, 5)] * 3),
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.sampled_from([0.08, 0.13]),
)
def test_a_tenth_of_a_voxel_off_is_on_the_grid_however_it_is_stored(
    turn: Turn,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    direction: tuple[float, float, float],
    off_voxels: float,
) -> None:
    affine = np.diag([*spacing, 1.0])
    image = Grid(shape, affine)
    shift = np.array(direction)
    shift = off_voxels * shift / max(np.abs(shift).max(), 1e-9) if np.abs(shift).max() > 1e-6 else 0 * shift
    moved = affine.copy()
    moved[:3, 3] += shift * np.array(spacing)
    labels = turn.grid(Grid(shape, moved))
    on_grid = float(np.abs(shift).max()) <= 0.1
    assert (turn_onto(labels, image) is not None) == on_grid
    if not on_grid:
        assert "0.13 voxels" in difference(labels, image)


def changed(
    affine: np.ndarray, *, mirror: tuple[float, ...] = (1, 1, 1), shift_voxels: float = 0.0
) -> np.ndarray:
    return (
        np.diag([*mirror, 1.0])
        @ affine
        @ np.array([[1, 0, 0, shift_voxels], [0, 1, 0, shift_voxels], [0, 0, 1, shift_voxels], [0, 0, 0, 1]])
    )


TILTED = np.array([[-1, 0, 0, 10], [0, 1, -0.8, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
UPRIGHT = TILTED * np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("labels", "image", "cause"),
    [
        (Grid(SHAPE, changed(AFFINE, mirror=(-1, -1, 1))), Grid(SHAPE, AFFINE), "LPS taken for RAS"),
        (Grid(SHAPE, changed(AFFINE, mirror=(-1, 1, 1))), Grid(SHAPE, AFFINE), "left-right"),
        (Grid(SHAPE, AFFINE @ np.diag([1, -1, 1, 1])), Grid(SHAPE, AFFINE), "rows run the other way"),
        (Grid(SHAPE, UPRIGHT), Grid(SHAPE, TILTED), "tilted gantry"),
        (Grid(SHAPE, changed(AFFINE, shift_voxels=0.5)), Grid(SHAPE, AFFINE), "half a voxel"),
        (Grid(SHAPE, changed(AFFINE, shift_voxels=2)), Grid(SHAPE, AFFINE), "whole voxels (2 x 2 x 2)"),
        (Grid(SHAPE, changed(AFFINE, shift_voxels=0.3)), Grid(SHAPE, AFFINE), "0.3 x 0.3 x 0.3 voxels"),
        (Grid(SHAPE, np.eye(4)), Grid(SHAPE, AFFINE), "has no place"),
        (Grid(SHAPE, AFFINE @ np.diag([1, 1, 2, 1])), Grid(SHAPE, AFFINE), "measure"),
        (Grid((6, 5, 4), AFFINE), Grid(SHAPE, AFFINE), "reverse order (z, y, x)"),
        (Grid((3, 4, 4), changed(AFFINE, shift_voxels=1)), Grid(SHAPE, AFFINE), "from voxel 1 x 1 x 1 on"),
        (Grid((8, 10, 6), AFFINE @ np.diag([0.5, 0.5, 1, 1])), Grid(SHAPE, AFFINE), "resampled"),
    ],
)  # fmt: skip
def test_what_usually_moves_labels_is_named(labels: Grid, image: Grid, cause: str) -> None:
    assert turn_onto(labels, image) is None
    assert cause in difference(labels, image)
