"""What a phantom is made of: ellipsoids of tissue in world space, and their rendering on any voxel grid.

World space is RAS+ in millimetres around the scanner's isocentre. Everything is analytic, so the volume
of a lesion is known exactly and the same body can be imaged on any grid, oblique ones included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AIR_HU = -1000.0


@dataclass(frozen=True)
class Ellipsoid:
    """A solid ellipsoid with axes along the world's, filled with one value."""

    name: str
    center_mm: tuple[float, float, float]
    """Centre, RAS+ millimetres."""
    semi_axes_mm: tuple[float, float, float]
    value: float
    """Hounsfield units for CT, arbitrary signal for MR."""

    @property
    def volume_mm3(self) -> float:
        """Exact volume, 4/3 pi a b c."""
        return 4.0 / 3.0 * math.pi * math.prod(self.semi_axes_mm)

    def inside(
        self, shape: tuple[int, int, int], affine: NDArray[np.float64]
    ) -> tuple[Box, NDArray[np.bool_]]:
        """Which voxel centres lie inside.

        Returns the index box that holds the ellipsoid on a grid of `shape` with `affine` (voxel index to
        RAS+ mm), and the boolean mask within that box. Only the box is computed: most structures fill a
        small part of the grid.
        """
        inverse = np.linalg.inv(affine)
        center = inverse[:3, :3] @ np.asarray(self.center_mm) + inverse[:3, 3]
        # The extent of a linear image of an ellipsoid along an axis is the norm of the scaled matrix row.
        reach = np.linalg.norm(inverse[:3, :3] * np.asarray(self.semi_axes_mm), axis=1)
        box = tuple(
            slice(max(0, math.ceil(c - r)), max(0, min(n, math.floor(c + r) + 1)))
            for c, r, n in zip(center, reach, shape, strict=True)
        )
        # Each world coordinate is a sum of one term per voxel axis, so it is built by broadcasting.
        axes = [np.arange(part.start, max(part.start, part.stop)) for part in box]
        distance = np.zeros([len(axis) for axis in axes], np.float32)
        for world_axis in range(3):
            terms = [affine[world_axis, n] * axis for n, axis in enumerate(axes)]
            offset = affine[world_axis, 3] - self.center_mm[world_axis]
            scale = 1.0 / self.semi_axes_mm[world_axis]
            coordinate = ((terms[0] + offset) * scale).astype(np.float32)[:, None, None]
            coordinate = coordinate + (terms[1] * scale).astype(np.float32)[None, :, None]
            coordinate = coordinate + (terms[2] * scale).astype(np.float32)[None, None, :]
            distance += coordinate * coordinate
        return (box[0], box[1], box[2]), distance <= 1.0


Box = tuple[slice, slice, slice]


def render(
    background: float,
    structures: Sequence[Ellipsoid],
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Values at the voxel centres, shape (X, Y, Z): later structures cover earlier ones."""
    values = np.full(shape, background, np.float32)
    for structure in structures:
        box, inside = structure.inside(shape, affine)
        values[box][inside] = structure.value
    return values


def label(
    structures: Sequence[Ellipsoid], shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Label map, shape (X, Y, Z): 0 outside, n inside the n-th structure (from 1)."""
    labels = np.zeros(shape, np.uint8)
    for number, structure in enumerate(structures, start=1):
        box, inside = structure.inside(shape, affine)
        labels[box][inside] = number
    return labels


def torso(rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """The organs of one subject in Hounsfield units, sizes drawn from `rng` within a few per cent."""
    size = float(rng.uniform(0.94, 1.03))

    def part(
        name: str, center: tuple[float, float, float], semi: tuple[float, float, float], hu: float
    ) -> Ellipsoid:
        return Ellipsoid(name, center, (semi[0] * size, semi[1] * size, semi[2] * size), hu)

    return (
        part("subcutaneous fat", (0, 0, 0), (168, 120, 620), -100),
        part("muscle", (0, 0, 0), (150, 103, 580), 55),
        part("visceral fat", (0, 0, 0), (135, 88, 560), -85),
        part("right lung", (76, 8, 65), (52, 72, 85), -850),
        part("left lung", (-76, 8, 65), (52, 72, 85), -850),
        part("heart", (-22, 30, 45), (48, 42, 50), 130),
        part("liver", (62, 5, -75), (62, 72, 58), 110),
        part("spleen", (-92, -15, -70), (28, 40, 45), 120),
        part("aorta", (-14, -38, 0), (11, 11, 500), 190),
        part("vertebral cortex", (0, -68, 0), (21, 20, 500), 720),
        part("vertebral marrow", (0, -68, 0), (16, 15, 480), 260),
    )


# Places far enough apart that lesions of up to 18 mm with 4 mm of jitter never touch, each well inside
# its organ: (organ, centre RAS+ mm, Hounsfield units of the lesion).
_LESION_SITES: tuple[tuple[str, tuple[float, float, float], float], ...] = (
    ("liver", (88, 12, -75), 40.0),
    ("right lung", (80, 15, 75), 35.0),
    ("liver", (40, -4, -78), 175.0),
    ("left lung", (-92, -10, 70), 25.0),
)


def lesions(rng: np.random.Generator, count: int) -> tuple[Ellipsoid, ...]:
    """`count` lesions (0 to 4): the first a sphere, the others ellipsoids; semi-axes 11 to 18 mm."""
    found = []
    order = rng.permutation(len(_LESION_SITES))[:count]
    for number, site in enumerate(sorted(order)):
        organ, center, value = _LESION_SITES[site]
        jitter = rng.uniform(-4.0, 4.0, 3)
        semi = np.full(3, rng.uniform(12.0, 18.0)) if number == 0 else rng.uniform(11.0, 18.0, 3)
        found.append(
            Ellipsoid(
                f"{organ} lesion",
                (center[0] + jitter[0], center[1] + jitter[1], center[2] + jitter[2]),
                (float(semi[0]), float(semi[1]), float(semi[2])),
                value,
            )
        )
    return tuple(found)


def head(rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """A head in T1-weighted signal: scalp, skull, fluid, grey and white matter, ventricles."""
    size = float(rng.uniform(0.94, 1.04))

    def part(
        name: str, center: tuple[float, float, float], semi: tuple[float, float, float], signal: float
    ) -> Ellipsoid:
        return Ellipsoid(name, center, (semi[0] * size, semi[1] * size, semi[2] * size), signal)

    return (
        part("scalp", (0, 0, 0), (80, 98, 104), 720),
        part("skull", (0, 0, 0), (74, 92, 98), 90),
        part("cerebrospinal fluid", (0, 0, 2), (69, 87, 92), 170),
        part("grey matter", (0, 0, 3), (66, 84, 88), 430),
        part("white matter", (0, 2, 6), (56, 73, 76), 640),
        part("right ventricle", (14, -4, 10), (7, 28, 14), 150),
        part("left ventricle", (-14, -4, 10), (7, 28, 14), 150),
    )
