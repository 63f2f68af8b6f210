"""A picture of a volume: its three mid-planes side by side, labels overlaid, without any text.

Planes are shown as radiologists look at them (axial and coronal with the patient's right on the left,
anterior or head up) and with true proportions. No identifier is ever drawn.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LABEL_COLOURS = np.array(
    [(230, 60, 60), (60, 170, 240), (80, 200, 100), (245, 190, 60), (180, 100, 230), (250, 130, 190)],
    dtype=np.float64,
)
_OVERLAY = 0.45
_BACKGROUND = 16


def render_preview(
    planes: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    labels: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None,
    *,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    height: int = 256,
) -> bytes:
    """PNG of three orthogonal planes.

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

    Raises
    ------
    ValueError
        If a plane is not 2D or labels differ in shape.
    """
    low, high = _window(planes)
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
        width = max(1, round(height * (plane.shape[0] * across) / max(plane.shape[1] * up, 1e-9)))
        tiles.append(picture.resize((min(width, 4 * height), height), Image.Resampling.BILINEAR))
    return _png(tiles, height)


def _window(planes: tuple[NDArray[Any], ...]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(plane, dtype=np.float64).ravel() for plane in planes])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
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
        sheet.paste(tile, (left, 0))
        left += tile.width + gap
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
