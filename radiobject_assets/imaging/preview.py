"""A picture of a volume: its three mid-planes side by side, labels overlaid, without any text.

Planes are shown as radiologists look at them (axial and coronal with the patient's right on the left,
anterior or head up) and with true proportions. No identifier is ever drawn.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, features

_LABEL_COLOURS = np.array(
    [(230, 60, 60), (60, 170, 240), (80, 200, 100), (245, 190, 60), (180, 100, 230), (250, 130, 190)],
    dtype=np.float64,
)
_OVERLAY = 0.45
_BACKGROUND = 16
# Widths and qualities of a thumbnail, best first; below 100 pixels nobody recognises anything.
_THUMBNAIL_WIDTHS = (240, 200, 160, 120, 100)
_THUMBNAIL_QUALITIES = (60, 40, 25, 15, 8, 2)

SOFT_TISSUE_HU = (-160.0, 240.0)
"""Lowest and highest shown value of CT: the window of 400 HU around 40 that the body is looked at with."""


def render_preview(
    planes: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    labels: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None,
    *,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    height: int = 256,
    window: tuple[float, float] | None = None,
) -> bytes:
    """PNG of three orthogonal planes.

    Each plane is as large as fits a box twice as wide as high: one of few slices is a strip, and is not
    stretched.

    Parameters
    ----------
    planes
        Mid-planes (x = mid: shape (Y, Z); y = mid: (X, Z); z = mid: (X, Y)) of a volume whose axes run to
        the right, anterior and superior (RAS); stored or physical values.
    labels
        Label values of the same planes; 0 is background.
    spacing_mm
        Of the x, y and z axes: keeps proportions true.
    height
        Of the picture, in pixels.
    window
        The values that are black and white; without it, or where the planes have next to nothing within it,
        by the values that are there.

    Raises
    ------
    ValueError
        If a plane is not 2D or labels differ in shape.
    """
    low, high = _window(planes, window)
    # (horizontal axis spacing, vertical axis spacing) of each plane
    scales = ((spacing_mm[1], spacing_mm[2]), (spacing_mm[0], spacing_mm[2]), (spacing_mm[0], spacing_mm[1]))
    tiles = []
    for number, (plane, (across, up)) in enumerate(zip(planes, scales, strict=True)):
        if plane.ndim != 2:
            raise ValueError(f"plane {number} has {plane.ndim} dimensions, 2 are needed")
        grey = np.clip((np.asarray(plane, dtype=np.float64) - low) / (high - low), 0, 1) * 255
        colour = np.repeat(np.nan_to_num(grey)[..., None], 3, axis=2)
        if labels is not None:
            colour = _overlaid(colour, labels[number])
        # Right of the patient to the left of the picture (for x), superior or anterior up.
        flipped = colour[:, ::-1] if number == 0 else colour[::-1, ::-1]
        picture = Image.fromarray(flipped.transpose(1, 0, 2).astype(np.uint8))
        wide_mm, high_mm = plane.shape[0] * across, plane.shape[1] * up
        pixels_per_mm = min(height / max(high_mm, 1e-9), 2 * height / max(wide_mm, 1e-9))
        size = (max(1, round(wide_mm * pixels_per_mm)), max(1, round(high_mm * pixels_per_mm)))
        tiles.append(picture.resize(size, Image.Resampling.BILINEAR))
    return _png(tiles, height)


def thumbnail(picture: bytes, max_bytes: int) -> bytes | None:
    """The picture as a small WebP of at most so many bytes; None where none is that can be recognised."""
    if not features.check("webp"):
        return None
    with Image.open(io.BytesIO(picture)) as opened:
        whole = opened.convert("RGB")
    for width in _THUMBNAIL_WIDTHS:
        small = whole.copy()
        small.thumbnail((width, width), Image.Resampling.BOX)
        small = small.filter(ImageFilter.GaussianBlur(0.6))  # noise is what takes the bytes
        for quality in _THUMBNAIL_QUALITIES:
            content = as_webp(small, quality)
            if len(content) <= max_bytes:
                return content
    return None


def as_webp(picture: Image.Image, quality: int) -> bytes:
    """A WebP file: of a picture of an image, a tenth of what PNG takes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=quality, method=6)
    return buffer.getvalue()


def _window(planes: tuple[NDArray[Any], ...], wanted: tuple[float, float] | None) -> tuple[float, float]:
    values = np.concatenate([np.asarray(plane, dtype=np.float64).ravel() for plane in planes])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    if wanted is not None and ((values > wanted[0]) & (values < wanted[1])).mean() > 0.02:
        return wanted
    low, high = np.percentile(values, (1, 99.5))
    return float(low), float(high if high > low else low + 1)


def _overlaid(colour: NDArray[np.float64], labels: NDArray[Any]) -> NDArray[np.float64]:
    if labels.shape != colour.shape[:2]:
        raise ValueError(f"labels have shape {labels.shape}, the plane {colour.shape[:2]}")
    marked = labels > 0
    paint = _LABEL_COLOURS[(labels.astype(np.int64) - 1) % len(_LABEL_COLOURS)]
    return np.where(marked[..., None], (1 - _OVERLAY) * colour + _OVERLAY * paint, colour)


def _png(tiles: list[Image.Image], height: int) -> bytes:
    gap = 4
    sheet = Image.new(
        "RGB", (sum(tile.width for tile in tiles) + gap * (len(tiles) - 1), height), (_BACKGROUND,) * 3
    )
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, (height - tile.height) // 2))
        left += tile.width + gap
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
