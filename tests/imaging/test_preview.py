"""Previews: three planes in one picture, labels visible, proportions true, nothing written on them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from radiobject_assets.imaging.preview import render_preview


def _planes(fill: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.full((40, 30), fill), np.full((20, 30), fill), np.full((20, 40), fill)


def _open(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_a_preview_is_a_png_with_three_planes_side_by_side() -> None:
    picture = _open(render_preview(_planes(), height=60))
    assert picture.format == "PNG"
    assert picture.height == 60
    assert picture.width == 80 + 40 + 30 + 8
    assert not picture.info, "no text chunk may carry an identifier"


def test_proportions_follow_the_spacing() -> None:
    square = (np.zeros((10, 10)),) * 3
    picture = _open(render_preview(square, spacing_mm=(1, 1, 4), height=80))
    assert picture.width == 20 + 20 + 80 + 8


def test_labels_are_painted_over_the_image() -> None:
    labels = tuple(np.zeros(plane.shape, np.uint8) for plane in _planes())
    labels[2][5:15, 10:30] = 1
    plain = np.asarray(_open(render_preview(_planes(7)))).astype(int)
    painted = np.asarray(_open(render_preview(_planes(7), labels))).astype(int)  # type: ignore[arg-type]
    coloured = np.abs(painted - plain).max(axis=2) > 20
    assert coloured.any()
    assert not coloured[:, : plain.shape[1] // 2].any(), "only the third plane has a label"


def test_superior_is_up_and_the_patients_right_on_the_left() -> None:
    planes = _planes()
    planes[1][:, -5:] = 100  # coronal: high z is superior
    planes[2][:4, :] = 100  # axial: low x is the patient's left, on the right of the picture
    picture = np.asarray(_open(render_preview(planes, height=60)).convert("L")).astype(int)
    coronal = picture[:, 84 : 84 + 40]
    assert coronal[:5].mean() > coronal[-20:].mean() + 50
    axial = picture[:, 84 + 44 :]
    assert axial[:, -3:].mean() > axial[:, :10].mean() + 50


def test_values_that_are_not_finite_do_not_spoil_the_picture() -> None:
    planes = _planes()
    planes[0][:] = np.nan
    assert _open(render_preview(planes)).height == 256


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="labels have shape"):
        render_preview(_planes(), tuple(np.zeros((3, 3), int) for _ in range(3)))  # type: ignore[arg-type]
