"""What an affine says, axis directions and spacing, and turning voxels to a canonical orientation.

Both rooms below the ingest, `imaging` and `store`, speak of orientation; neither may import the other, so
what they share is here: pure functions of an affine. Affines map voxel indices to RAS+ millimetres.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radiobject_assets.errors import ConfigurationError

Affine = NDArray[np.float64]

_WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class OrientationInfo:
    """Where the axes of a volume point, and how that is known."""

    axcodes: tuple[str, str, str]
    affine: tuple[tuple[float, ...], ...]
    """4x4, voxel index to RAS+ millimetres."""
    is_canonical: bool
    """Whether the axes are right, anterior, superior."""
    confidence: str
    """`header`, or `unknown` where no affine was given."""
    source: str
    """`nifti_sform`, `nifti_qform`, `dicom_iop`, or `identity` where no affine was given."""

    @classmethod
    def of(cls, affine: Affine, source: str) -> OrientationInfo:
        """The orientation that an affine says; `source` is `identity` where none was given."""
        x, y, z = tuple(affine_axcodes(affine))
        return cls(
            axcodes=(x, y, z),
            affine=tuple(tuple(float(value) for value in row) for row in affine),
            is_canonical=(x, y, z) == ("R", "A", "S"),
            confidence="unknown" if source == "identity" else "header",
            source=source,
        )


def affine_from_values(values: ArrayLike) -> Affine:
    """The 4x4 matrix of twelve values in row order, as obs keeps them."""
    matrix = np.eye(4)
    matrix[:3] = np.asarray(values, dtype=np.float64).reshape(3, 4)
    return matrix


def spacing_mm(affine: Affine) -> tuple[float, float, float]:
    """Lengths of the three voxel axes, mm."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def affine_to_list(affine: Affine) -> list[list[float]]:
    """An affine as nested lists of Python floats."""
    return [[float(value) for value in row] for row in affine]


def affine_to_json(affine: Affine) -> str:
    """An affine as JSON text that gives back the same numbers."""
    return json.dumps(affine_to_list(affine))


def orientation_info_to_metadata(
    info: OrientationInfo, original_affine: Affine | None = None
) -> dict[str, str]:
    """An orientation as the texts that RadiObject keeps with an array, which `RadiObject(uri)` here reads."""
    metadata = {
        "orientation_axcodes": "".join(info.axcodes),
        "orientation_affine": affine_to_json(np.asarray(info.affine)),
        "orientation_source": info.source,
        "orientation_confidence": info.confidence,
    }
    if original_affine is not None:
        metadata["original_affine"] = affine_to_json(original_affine)
    return metadata


def metadata_to_orientation_info(metadata: Mapping[str, object]) -> OrientationInfo | None:
    """What `orientation_info_to_metadata` was given; None where the metadata has no affine.

    Raises
    ------
    ValueError
        If the affine is not text of numbers.
    """
    text = metadata.get("orientation_affine")
    if not text:
        return None
    info = OrientationInfo.of(
        np.array(json.loads(str(text)), np.float64), str(metadata.get("orientation_source") or "identity")
    )
    return replace(info, confidence=str(metadata.get("orientation_confidence") or info.confidence))


def orientation_source(kind: str, attributes: Mapping[str, object]) -> str:
    """Where the affine of an image of a reader's `kind` (`dicom`, `nifti`, ...) is from.

    Parameters
    ----------
    attributes
        Of a NIfTI image: `sform_code` and `qform_code`.
    """
    if kind == "dicom":
        return "dicom_iop"
    if "sform_code" not in attributes:
        return kind
    for name in ("sform", "qform"):
        code = attributes.get(f"{name}_code")
        if isinstance(code, int) and code > 0:
            return f"nifti_{name}"
    return "identity"


def is_orientation_valid(info: OrientationInfo) -> bool:
    """Whether an orientation can be relied on: from a header, finite, no identity, no axis without direction.

    Sheared affines (gantry tilt) are valid.
    """
    affine = np.asarray(info.affine, dtype=np.float64)
    if info.confidence == "unknown" or affine.shape != (4, 4) or not np.isfinite(affine).all():
        return False
    if np.allclose(affine, np.eye(4), atol=1e-6):
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not lengths.all():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6)


def affine_axcodes(affine: Affine) -> str:
    """Anatomical direction in which each voxel axis grows, e.g. `RAS`.

    Each voxel axis gets the world axis it is closest to, the clearest assignments first, so that an oblique
    affine never yields one world axis twice.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    codes = ["?"] * 3
    free_axes, free_worlds = {0, 1, 2}, {0, 1, 2}
    while free_axes:
        axis, world = max(
            ((a, w) for a in sorted(free_axes) for w in sorted(free_worlds)),
            key=lambda pair: abs(cosines[pair[1], pair[0]]),
        )
        codes[axis] = ("LR", "PA", "IS")[world][int(cosines[world, axis] > 0)]
        free_axes.discard(axis)
        free_worlds.discard(world)
    return "".join(codes)


def reorient(voxels: NDArray[Any], affine: Affine, target: str = "RAS") -> tuple[NDArray[Any], Affine]:
    """Permute and flip the axes of (X, Y, Z[, T]) voxels so that they point to `target`, without resampling.

    The affine that is returned maps the new indices to the same places in RAS+ millimetres.

    Raises
    ------
    ConfigurationError
        If `target` is not three letters with one of each pair R/L, A/P, S/I.
    """
    code = target.upper()
    if len(code) != 3 or any(c not in _WORLD for c in code) or len({_WORLD[c][0] for c in code}) != 3:
        raise ConfigurationError(f"orientation {target!r}: use three letters such as RAS, LAS or LPS")
    present = [_WORLD[letter] for letter in affine_axcodes(affine)]
    order, flips = [], []
    for letter in code:
        world, sign = _WORLD[letter]
        axis = next(i for i, (w, _) in enumerate(present) if w == world)
        order.append(axis)
        flips.append(present[axis][1] != sign)
    moved = np.transpose(voxels, (*order, *range(3, voxels.ndim)))
    change = np.zeros((4, 4))
    change[3, 3] = 1.0
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        change[old, new] = -1.0 if flip else 1.0
        if flip:
            change[old, 3] = voxels.shape[old] - 1
            moved = np.flip(moved, new)
    turned: Affine = affine @ change
    return moved, turned
