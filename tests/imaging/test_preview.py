"""Previews: three planes in one picture, labels visible, proportions true, nothing written on them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from radiobject_assets.imaging.preview import SOFT_TISSUE_HU, render_preview, thumbnail


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


def test_a_volume_of_few_slices_is_a_strip_and_is_not_stretched() -> None:
    # three slices of 5 mm of 512 x 512 pixels of 0.7 mm: 358 mm wide and 15 mm high
    strip = np.full((512, 3), 100.0)
    strip[0, 0] = 0
    planes = strip, strip, np.full((512, 512), 0.0)
    picture = _open(render_preview(planes, spacing_mm=(0.7, 0.7, 5.0), height=240))
    assert picture.size == (480 + 480 + 240 + 8, 240)
    coronal = np.asarray(picture.convert("L"))[:, 484 + 240]
    assert (coronal > 128).sum() == pytest.approx(480 * 15 / (512 * 0.7), abs=1)


def test_ct_is_shown_in_the_window_and_what_has_nothing_in_it_by_its_own_values() -> None:
    hu = np.full((20, 20), -1000.0)
    hu[5:15, 5:15] = 40  # soft tissue: in the middle of the window, so middle grey
    hu[0, 0] = 3000  # metal, which would make all else dark
    grey = np.asarray(_open(render_preview((hu, hu, hu), height=20, window=SOFT_TISSUE_HU)).convert("L"))
    assert grey[10, 10] == pytest.approx(127, abs=2)
    other = np.full((20, 20), 30_000.0)
    other[5:15, 5:15] = 60_000  # no Hounsfield units
    picture = render_preview((other, other, other), height=20, window=SOFT_TISSUE_HU)
    shown = np.asarray(_open(picture).convert("L"))
    assert shown[10, 10] > 200
    assert shown[1, 1] < 50


@pytest.mark.parametrize("noise", [0, 200])
def test_a_thumbnail_fits_and_still_shows_the_three_planes(noise: int) -> None:
    random = np.random.default_rng(3)
    plane = random.normal(0, noise, (256, 256))
    plane[64:192, 64:192] += 1000
    small = thumbnail(render_preview((plane, plane, plane), height=240), 720)
    assert small is not None
    assert len(small) <= 720
    shown = Image.open(io.BytesIO(small))
    assert shown.width >= 100
    assert shown.width / shown.height == pytest.approx(728 / 240, rel=0.05)


def test_no_thumbnail_is_better_than_one_that_does_not_fit() -> None:
    assert thumbnail(render_preview(_planes(7)), 30) is None
