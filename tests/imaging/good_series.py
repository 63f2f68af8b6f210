"""Good series with their truth, and what became of their files once something was changed.

`load_good` reads a real series plane by plane and says, without the code under test, which volumes it is:
places from the headers, points of the fourth axis from dcm2niix's output, values from the files. `outcome`
says what became of a (changed) set of files: exact, divided by kind, refused as a whole, or what is wrong.
"""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from dcm2niix_reference import physical
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.opening.open_series import open_series
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.series.series_building import build_series

# No voxel is at another's place below this.
SAME_PLACE_VOXELS = 0.1
_NUMBER = re.compile(r"\d|\b(one|two|three|four|five)\b")


@dataclass(frozen=True)
class Plane:
    """One file of one slice: its bytes, where it belongs in truth, and what its header says that it is.

    of, z, t
        The volume of the good series that it belongs to, its place along the normal, its point of the fourth
        axis.
    kind
        What the (changed) header says; planes of two kinds are never in one volume.
    damaged
        Nothing can be taken from it any more.
    """

    data: bytes
    name: str
    of: str
    z: int
    t: int
    kind: str = ""
    damaged: bool = False

    def edited(self, change: Callable[[Dataset], None], **fields: object) -> Plane:
        """The plane with its header changed; a `kind` is added to what it is already."""
        if "kind" in fields:
            fields["kind"] = f"{self.kind} {fields['kind']}".strip()
        ds = pydicom.dcmread(io.BytesIO(self.data))
        change(ds)
        buffer = io.BytesIO()
        ds.save_as(buffer)
        return replace(self, data=buffer.getvalue(), **fields)  # type: ignore[arg-type]

    def header(self) -> Dataset:
        """The header, read again."""
        return pydicom.dcmread(io.BytesIO(self.data))


Planes = list[Plane]


@dataclass(frozen=True, eq=False)
class Volume:
    """Physical values (column, row, slice, point) and the affine to RAS+ mm."""

    voxels: NDArray[np.float64]
    affine: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Good:
    """A series that is sound: its planes, and the volumes that they are."""

    name: str
    planes: tuple[Plane, ...]
    volumes: dict[str, Volume]
    weightings: tuple[list[float], NDArray[np.float64]] | None = None
    """b-values and directions (RAS+) of the points, as dcm2niix has them, of a diffusion series."""
    mosaic: bool = False
    """Each file has all places of one point."""

    @property
    def n_points(self) -> int:
        """Points of the fourth axis (of the first volume)."""
        return max(plane.t for plane in self.planes) + 1


@cache
def load_good(shared_data: Path, name: str) -> Good:
    """A classic series of the reference data with its truth."""
    headers = []
    for path in sorted((shared_data / "series" / name).iterdir()):
        ds = pydicom.dcmread(path)
        if "ImagePositionPatient" in ds:
            headers.append((path, ds))
    by_kind: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    for path, ds in headers:
        phase = "phase" if "P" in ds.ImageType[2:] else ""
        by_kind[f"{ds.get('EchoTime', '')}{phase}"].append((path, ds))
    references = [
        nib.load(path)
        for path in sorted((shared_data / "ref" / name).rglob("*.nii.gz"))
        if not path.parent.name.startswith("_")
    ]
    planes: Planes = []
    volumes = {}
    for kind, group in by_kind.items():
        found, volume = _truth(kind, group, references)
        planes += found
        volumes[kind] = volume
    images = [path for path in (shared_data / "ref" / name).glob("*.nii.gz") if _bval(path).is_file()]
    return Good(name, tuple(planes), volumes, _weightings(images[0]) if images else None)


def _bval(image: Path) -> Path:
    return image.with_name(image.name.replace(".nii.gz", ".bval"))


def _weightings(image: Path) -> tuple[list[float], NDArray[np.float64]]:
    affine = nib.load(image).affine[:3, :3]
    axes = affine / np.linalg.norm(affine, axis=0)
    vectors = np.loadtxt(_bval(image).with_suffix(".bvec")).T
    if np.linalg.det(axes) > 0:  # FSL's convention: the first axis is mirrored
        vectors = vectors * [-1, 1, 1]
    return np.loadtxt(_bval(image)).tolist(), vectors @ axes.T


@cache
def load_mosaic(shared_data: Path, name: str) -> Good:
    """A series of mosaics: one file for each point of the fourth axis, as dcm2niix has them."""
    image = nib.load(shared_data / "ref" / name / f"{name}.nii.gz")
    volume = Volume(np.asarray(image.dataobj, np.float64), np.asarray(image.affine))
    planes = []
    for path in sorted((shared_data / "series" / name).iterdir()):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        planes.append(Plane(path.read_bytes(), path.name, "", 0, int(ds.InstanceNumber) - 1))
    return Good(name, tuple(planes), {"": volume}, mosaic=True)


def _truth(
    kind: str, group: list[tuple[Path, Dataset]], references: Sequence[nib.Nifti1Image]
) -> tuple[Planes, Volume]:
    first = group[0][1]
    across, down = np.reshape(np.array(first.ImageOrientationPatient, float), (2, 3))
    normal = np.cross(across, down)
    along = [float(np.array(ds.ImagePositionPatient, float) @ normal) for _, ds in group]
    places: list[float] = []
    for value in sorted(along):
        if not places or value - places[-1] > 1e-2:
            places.append(value)
    n_points = len(group) // len(places)
    assert n_points * len(places) == len(group)
    voxels = np.zeros((int(first.Columns), int(first.Rows), len(places), n_points))
    ends: dict[int, NDArray[np.float64]] = {}
    planes = []
    for (path, ds), value in zip(group, along, strict=True):
        z = int(np.argmin(np.abs(np.array(places) - value)))
        pixels = ds.pixel_array.astype(np.float64)
        t = _point(ds, pixels, references) if n_points > 1 else 0
        slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
        if "RescaleSlope" not in ds and "RealWorldValueMappingSequence" in ds:  # Philips
            (mapping,) = ds.RealWorldValueMappingSequence
            slope, intercept = mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept
        voxels[:, :, z, t] = (pixels * slope + intercept).T
        ends[z] = np.array(ds.ImagePositionPatient, float)
        planes.append(Plane(path.read_bytes(), path.name, kind, z, t, kind))
    assert len({(plane.z, plane.t) for plane in planes}) == len(planes)
    affine = np.eye(4)
    affine[:3, 0] = across * float(first.PixelSpacing[1])
    affine[:3, 1] = down * float(first.PixelSpacing[0])
    affine[:3, 2] = (ends[len(places) - 1] - ends[0]) / (len(places) - 1)
    affine[:3, 3] = ends[0]
    return planes, Volume(voxels, np.diag([-1.0, -1, 1, 1]) @ affine)


def _point(ds: Dataset, pixels: NDArray[np.float64], references: Sequence[nib.Nifti1Image]) -> int:
    """The point of the fourth axis at which dcm2niix has these pixels, whatever scaling it applied."""
    across, down = np.reshape(np.array(ds.ImageOrientationPatient, float), (2, 3))
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = across * float(ds.PixelSpacing[1]), down * float(ds.PixelSpacing[0])
    lps[:3, 2], lps[:3, 3] = np.cross(across, down), np.array(ds.ImagePositionPatient, float)
    best: tuple[float, int] = (float("inf"), -1)
    for image in references:
        if image.ndim != 4:
            continue
        index = np.linalg.inv(image.affine) @ np.diag([-1.0, -1, 1, 1]) @ lps
        column, row = np.indices(pixels.T.shape)
        at = np.round(np.tensordot(index[:3, :2], np.stack([column, row]), axes=1).T + index[:3, 3])
        i, j, k = np.moveaxis(at.astype(int), -1, 0)
        values = np.asarray(image.dataobj)[i, j, k]  # (rows, columns, points)
        for t in range(values.shape[2]):
            other = values[..., t].astype(np.float64)
            scale = (pixels.std() / other.std()) if other.std() else 0.0
            off = float(np.abs(pixels - pixels.mean() - (other - other.mean()) * scale).max())
            best = min(best, (off / max(1.0, float(pixels.std())), t))
    assert best[0] < 0.05, f"{best}: no point of the reference has these pixels"
    return best[1]


def darkened(good: Good) -> Good:
    """The good series (native pixels, one point) with slices at both ends whose values fit in 8 bits."""
    last = max(plane.z for plane in good.planes)
    volumes = {of: Volume(volume.voxels.copy(), volume.affine) for of, volume in good.volumes.items()}
    planes = []
    for plane in good.planes:
        if plane.z in (0, last):
            ds = plane.header()
            dark = ds.pixel_array % 256
            slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
            volumes[plane.of].voxels[:, :, plane.z, plane.t] = (dark * slope + intercept).T
            plane = plane.edited(lambda ds, v=dark: setattr(ds, "PixelData", v.tobytes()))
        planes.append(plane)
    return Good(good.name, tuple(planes), volumes)


def doubled(good: Good) -> Good:
    """A stack (native pixels) with a second image at each place: a series of two points."""
    planes = list(good.planes)
    volumes = {
        of: Volume(np.concatenate([volume.voxels, np.roll(volume.voxels, 5, axis=0)], axis=3), volume.affine)
        for of, volume in good.volumes.items()
    }

    def again(ds: Dataset) -> None:
        ds.PixelData = np.roll(ds.pixel_array, 5, axis=1).tobytes()
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber = int(ds.get("InstanceNumber") or 0) + 1000

    planes += [plane.edited(again, t=1, name=f"second-{plane.name}") for plane in good.planes]
    return Good(good.name, tuple(planes), volumes)


def write(planes: Iterable[Plane], folder: Path) -> int:
    """Write the files; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [plane.name for plane in planes]
    assert len(set(names)) == len(names)
    for plane in planes:
        (folder / plane.name).write_bytes(plane.data)
    return len(names)


def outcome(good: Good, planes: Sequence[Plane], folder: Path, *, parts: bool = False) -> str:
    """`exact`, `divided` or `refused`; anything else is in words what is wrong.

    exact
        The volumes of the good series, whatever kinds the headers name, and nothing else.
    divided
        Each volume that was taken is all there is of one kind, at all places, in order; the others refused.
        With `parts`, a run of neighbouring places under its own kind counts as all there is of it.
    weighted
        All of one series of diffusion weightings in another order, and each point says its weighting.
    refused
        Nothing was taken, with reasons from the list and details that have a number.
    """
    n_files = write(planes, folder)
    found = scan([folder])
    series = build_series(found)
    counted = len(found.unreadable) + sum(len(one.files) for one in series)
    if counted != n_files:
        return f"{counted} of {n_files} files are accounted for"
    images = [one for one in series if one.kind == "image"]
    taken = [one for one in images if one.verdict == "ingestable"]
    refused = [one for one in images if one.verdict != "ingestable"]
    told = [(str(one.reason), one.detail) for one in refused]
    told += [(str(item.reason), item.detail) for item in found.unreadable]
    unexplained = [pair for pair in told if pair[0] not in set(Reason) or not pair[1]]
    if unexplained:
        return f"refused without a reason or detail: {unexplained}"
    try:
        volumes = [Volume(physical(open_series(one)), np.asarray(one.affine)) for one in taken]
    except ImageReadError as error:  # refused when its pixels are read: `ingest` takes nothing of it then
        return "refused" if len(taken) == 1 and not refused else f"a part is taken: {error}"
    if not taken:
        numbers = any(_NUMBER.search(detail) for _, detail in told)
        return "refused" if numbers else f"refused without a number: {told}"
    shapes = [one.shape for one in taken]
    if _one_to_one(volumes, list(_groups(good, planes, lambda plane: plane.of).values())) and not refused:
        return "exact"
    right = _groups(good, planes, lambda plane: plane.kind, parts=parts)
    if all(any(unlike(ours, one) is None for one in right.values()) for ours in volumes):
        return "divided"
    if len(volumes) == 1 and not refused and _is_weighted(good, taken[0], volumes[0]):
        return "weighted"
    if len(volumes) == 1 and not refused:
        (whole,) = [*_groups(good, planes, lambda plane: plane.of).values()][:1] or [None]
        why = unlike(volumes[0], whole) if whole is not None else "nothing is right of it"
        return f"taken and wrong: {shapes[0]}, {why}"
    return f"taken {shapes}, refused {[(reason, detail[:90]) for reason, detail in told]}"


def _is_weighted(good: Good, series: Series, volume: Volume) -> bool:
    if series.attributes.get("fourth_axis") != "b_value" or good.weightings is None:
        return False
    values = json.loads(str(series.attributes["b_values_s_per_mm2"]))
    vectors = np.array(json.loads(str(series.attributes["b_vectors_ras"])))
    (whole,) = good.volumes.values()
    left = set(range(whole.voxels.shape[3]))
    for point, (value, vector) in enumerate(zip(values, vectors, strict=True)):
        ours = Volume(volume.voxels[..., point : point + 1], volume.affine)
        same = [t for t in left if unlike(ours, Volume(whole.voxels[..., t : t + 1], whole.affine)) is None]
        if len(same) != 1:
            return False
        left.remove(same[0])
        right_value, right_vector = good.weightings[0][same[0]], good.weightings[1][same[0]]
        if value != right_value or np.abs(vector - right_vector).max() > 2e-3:
            return False
    return not left


def _groups(
    good: Good, planes: Sequence[Plane], key: Callable[[Plane], str], *, parts: bool = False
) -> dict[str, Volume]:
    """The volumes that whole groups of planes are; none of a group that lacks a place or a plane."""
    groups: dict[tuple[str, str], Planes] = defaultdict(list)
    for plane in planes:
        groups[(plane.of, key(plane))].append(plane)
    result = {}
    for (of, name), group in groups.items():
        whole = good.volumes[of]
        places = sorted({plane.z for plane in group})
        points = sorted({plane.t for plane in group})
        distinct = {(plane.z, plane.t): plane for plane in group}
        run = places == list(range(places[0], places[-1] + 1))
        complete = len(places) == whole.voxels.shape[2] or (parts and run and len(places) > 1) or good.mosaic
        if any(p.damaged for p in group) or not complete or len(distinct) < len(places) * len(points):
            continue
        if good.mosaic:
            places = list(range(whole.voxels.shape[2]))
        affine = whole.affine.copy()
        affine[:3, 3] += affine[:3, 2] * places[0]
        result[f"{of}/{name}"] = Volume(whole.voxels[:, :, places][..., points], affine)
    return result


def _one_to_one(volumes: Sequence[Volume], right: Sequence[Volume]) -> bool:
    left = list(right)
    for volume in volumes:
        equal = next((n for n, one in enumerate(left) if unlike(volume, one) is None), None)
        if equal is None:
            return False
        left.pop(equal)
    return not left


def unlike(ours: Volume, right: Volume) -> str | None:
    """In what a volume differs from the right one, through world coordinates; None where in nothing."""
    to_right = np.linalg.inv(right.affine) @ ours.affine
    whole = np.round(to_right).astype(int)
    shape = ours.voxels.shape[:3]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1)
    if ours.voxels.size != right.voxels.size or ours.voxels.shape[3] != right.voxels.shape[3]:
        return f"shape {ours.voxels.shape} where {right.voxels.shape} is right"
    off = float(np.abs((to_right - whole)[:3] @ np.vstack([corners, np.ones(8)])).max())
    if off > SAME_PLACE_VOXELS:
        return f"corners up to {off:.2f} voxels off"
    linear = np.abs(whole[:3, :3])
    if not ((linear.sum(0) == 1).all() and (linear.sum(1) == 1).all()):
        return "axes do not fit"
    order = [int(linear[:, axis].argmax()) for axis in range(3)]
    moved = right.voxels.transpose(*order, 3)
    for axis in range(3):
        if whole[order[axis], axis] < 0:
            moved = np.flip(moved, axis)
    start = whole @ [0, 0, 0, 1]
    expected = [0 if whole[a, order.index(a)] > 0 else right.voxels.shape[a] - 1 for a in range(3)]
    if moved.shape != ours.voxels.shape or list(start[:3]) != expected:
        return "the first voxel is another one"
    wrong = np.abs(ours.voxels - moved) > 1e-6 * max(1.0, float(np.abs(moved).max()))
    if not wrong.any():
        return None
    slices = np.unique(np.nonzero(wrong.any(axis=(0, 1)))[1])
    return f"{wrong.mean():.1%} of the values differ, at points {slices.tolist()} of {wrong.shape[3]}"


def attributes_of(series: Sequence[Series]) -> list[dict[str, object]]:
    """What is said of each volume that is taken."""
    return [dict(one.attributes) for one in series if one.verdict == "ingestable" and one.kind == "image"]
