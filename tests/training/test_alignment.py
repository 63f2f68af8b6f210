"""When two volumes count as lying on one another."""

from __future__ import annotations

import numpy as np
import pytest

from radiobject_assets.errors import AlignmentError
from radiobject_assets.training.alignment import check_same_grid, patch_affine

AFFINE = np.array([[-0.7, 0.0, 0.1, 120.0], [0.0, -0.7, 0.0, 90.0], [0.07, 0.0, 1.5, -400.0], [0, 0, 0, 1]])


def test_equal_grids_pass_and_float32_rounding_is_forgiven():
    check_same_grid((512, 512, 300), AFFINE, (512, 512, 300), AFFINE.astype(np.float32), "seg of ct")


def test_a_3d_label_fits_a_4d_image():
    check_same_grid((5, 5, 5, 9), AFFINE, (5, 5, 5), AFFINE, "seg of bold")


@pytest.mark.parametrize("shape", [(5, 5, 6), (5, 6, 5), (5, 5, 5, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(AlignmentError, match="seg of ct: shapes"):
        check_same_grid((5, 5, 5, 9), AFFINE, shape, AFFINE, "seg of ct")


@pytest.mark.parametrize(("entry", "by"), [((0, 3), 0.5), ((2, 2), 0.01), ((0, 0), 1.4), ((1, 3), np.nan)])
def test_shifted_scaled_flipped_and_unknown_grids_are_refused(entry, by):
    other = AFFINE.copy()
    other[entry] += by
    with pytest.raises(AlignmentError, match="mm apart"):
        check_same_grid((50, 50, 50), AFFINE, (50, 50, 50), other, "seg of ct")


def test_a_patch_keeps_its_place_in_the_world():
    moved = patch_affine(AFFINE, (10, -3, 7))
    assert np.allclose(moved @ [1, 2, 3, 1], AFFINE @ [11, -1, 10, 1])
