"""Compare an image source with a NIfTI reference (dcm2niix's output) through world coordinates.

dcm2niix flips rows and may permute axes, so voxels are matched by where they are: the affines give the
permutation and flips that bring the reference onto the source's grid. The comparator knows nothing about
the series in ../shared/data and runs on any pair.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import ImageSource

AFFINE_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class Difference:
    """How a volume differs from its reference: what kind, and the numbers."""

    kind: str
    detail: str


def convert(folder: Path) -> list[Path]:
    """What dcm2niix makes of a folder, with the standard's scaling; the test is skipped without dcm2niix."""
    command = Path(sys.executable).parent / "dcm2niix"
    if not command.exists():
        pytest.skip("dcm2niix is not installed")
    out = folder.parent / f"{folder.name}-reference"
    out.mkdir()
    run = [str(command), "-z", "n", "-f", "ref", "-p", "n", "-o", str(out), str(folder)]
    subprocess.run(run, check=True, capture_output=True)
    return sorted(out.glob("*.nii"))


def unlike(series: Sequence[Series], references: Sequence[Path]) -> list[str]:
    """What is left when each ingestable series is paired with the reference that it equals."""
    left = list(references)
    found = []
    for one in series:
        if one.verdict != "ingestable":
            found.append(f"{one.component!r}: {one.reason} {one.detail}")
            continue
        equal = next((path for path in left if not compare(open_series(one), path)), None)
        if equal is None:
            found.append(f"{one.component!r} {one.shape}: {[compare(open_series(one), p) for p in left]}")
        else:
            left.remove(equal)
    return found + [f"{path.name} {nib.load(path).shape}" for path in left]


def gradients(image: Path) -> tuple[list[float], NDArray[np.float64]]:
    """b-values beside a reference, and directions in RAS+: a .bvec is along image axes, as FSL has them."""
    affine = nib.load(image).affine[:3, :3]
    axes = affine / np.linalg.norm(affine, axis=0)
    vectors = np.loadtxt(image.with_suffix(".bvec")).T
    if np.linalg.det(axes) > 0:  # FSL's convention: the first axis is mirrored
        vectors = vectors * [-1, 1, 1]
    return np.loadtxt(image.with_suffix(".bval")).tolist(), vectors @ axes.T


def read_all(source: ImageSource, depth: int = 5) -> NDArray[Any]:
    """All stored voxels, shape (X, Y, Z, T)."""
    shape = (*source.shape, 1)[:4]
    voxels = np.empty(shape, source.dtype)
    seen = np.zeros((shape[2], shape[3]), int)
    for slab in source.slabs(depth):
        thick = slab.voxels.shape[2]
        voxels[:, :, slab.z : slab.z + thick, slab.t] = slab.voxels
        seen[slab.z : slab.z + thick, slab.t] += 1
    assert (seen == 1).all(), "every slice must come exactly once"
    return voxels


def physical(source: ImageSource, depth: int = 5) -> NDArray[np.float64]:
    """Physical voxel values, shape (X, Y, Z, T)."""
    return read_all(source, depth).astype(np.float64) * source.slope + source.intercept


def compare(
    source: ImageSource, reference: Path, *, affine_known_wrong: bool = False, stored: bool = False
) -> list[Difference]:
    """Everything in which a source differs from the reference; empty if they are equal.

    `affine_known_wrong` skips the affine (dcm2niix's is wrong for tilted and irregular stacks), voxels are
    then matched by the directions of the axes alone. `stored` compares stored values, not physical ones
    (dcm2niix applies Philips' private scaling instead of the standard's rescale).
    """
    image = nib.load(reference)
    ours = source.affine
    theirs = np.asarray(image.affine, dtype=np.float64)
    raw = image.dataobj.get_unscaled() if stored else image.get_fdata(dtype=np.float64)
    values = np.asarray(raw, dtype=np.float64)
    values = values.reshape((*values.shape, 1)[:4])
    order, flips = _onto(ours, theirs)
    moved = values.transpose(*order, 3)
    for axis, flip in enumerate(flips):
        if flip:
            moved = np.flip(moved, axis)
    mine = read_all(source).astype(np.float64) if stored else physical(source)
    if mine.shape != moved.shape:
        return [Difference("shape", f"{mine.shape}, the reference has {moved.shape}")]
    differences = []
    if not affine_known_wrong:
        off = np.abs(ours - _moved_affine(theirs, order, flips, moved.shape[:3]))
        if off.max() > AFFINE_TOLERANCE_MM:
            differences.append(Difference("affine", f"elements are up to {off.max():.5f} mm apart"))
    scale = max(1.0, float(np.abs(moved).max()))
    off_values = np.abs(mine - moved) > 1e-6 * scale
    if off_values.any():
        share = float(off_values.mean())
        worst = float(np.abs(mine - moved).max())
        differences.append(Difference("voxels", f"{share:.4%} of the voxels differ, by up to {worst:g}"))
    return differences


def _onto(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[list[int], list[bool]]:
    directions = np.linalg.inv(_unit(theirs)) @ _unit(ours)
    order = [int(np.abs(directions[:, axis]).argmax()) for axis in range(3)]
    assert sorted(order) == [0, 1, 2], f"axes cannot be matched: {directions}"
    return order, [bool(directions[order[axis], axis] < 0) for axis in range(3)]


def _unit(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)


def _moved_affine(
    affine: NDArray[np.float64], order: list[int], flips: list[bool], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    moved = np.eye(4)
    moved[:3, :3] = affine[:3, :3][:, order]
    moved[:3, 3] = affine[:3, 3]
    for axis, flip in enumerate(flips):
        if flip:
            moved[:3, 3] += moved[:3, axis] * (shape[axis] - 1)
            moved[:3, axis] *= -1
    return moved
