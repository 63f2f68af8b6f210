"""Takes a case's files in through the command line, and out again as NIfTI: what a user has in the end."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.store import RadiObject

# What is right is right to a tenth of a voxel: less moves no voxel to another's place.
SAME_PLACE_VOXELS = 0.1


@dataclass(frozen=True)
class Stored:
    """One volume of the store: its obs row without what is empty, and its export."""

    collection: str
    obs: dict[str, Any]
    image: nib.Nifti1Image
    sidecar: dict[str, Any]

    @property
    def voxels(self) -> NDArray[Any]:
        """Physical values as the exported file has them."""
        return np.asarray(self.image.dataobj)

    @property
    def points(self) -> list[NDArray[Any]]:
        """The volumes along the fourth axis; the volume itself where there is none."""
        return [self.voxels] if self.voxels.ndim == 3 else [*np.moveaxis(self.voxels, 3, 0)]


@dataclass(frozen=True)
class Run:
    """What one `ingest --json` said and left."""

    exit_code: int
    report: dict[str, Any]
    store: Path
    stored: list[Stored]

    @property
    def refused(self) -> list[dict[str, Any]]:
        """Series that were held back."""
        return [series for series in self.report["series"] if series["verdict"] != "ingestable"]

    def of(self, collection: str) -> list[Stored]:
        """The volumes of a collection."""
        return [volume for volume in self.stored if volume.collection == collection]

    @property
    def said(self) -> str:
        """All words of the report."""
        return json.dumps(self.report, ensure_ascii=False)


def take_in(inputs: Sequence[Path], folder: Path, dataset: Path | None = None) -> Run:
    """Ingest into a store in `folder` (which may hold one already) and export all of it."""
    store = folder / "store"
    arguments = ["ingest", *map(str, inputs), "--store", str(store), "--json"]
    if dataset is not None:
        arguments += ["--dataset", str(dataset)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code in (0, 1), f"{done.exception!r} {done.stderr}"
    report = json.loads(done.stdout)
    _accounted_for(report, inputs)
    out = folder / f"out-{len(list(folder.glob('out-*')))}"
    stored = []
    if any(series["verdict"] == "ingestable" for series in report["series"]) or (store / "obs").exists():
        exported = CliRunner().invoke(app, ["export", str(store), str(out), "--format", "nifti"])
        assert exported.exit_code == 0, f"{exported.exception!r} {exported.stderr}"
        radi = RadiObject(str(store))
        for name in radi.collection_names:
            for row in radi.collection(name).to_obs().to_dict("records"):
                path = out / name / f"{row['obs_id']}.nii.gz"
                obs = {str(k): v for k, v in row.items() if not pd.isna(v) and v != ""}
                sidecar = json.loads(path.with_name(f"{row['obs_id']}.json").read_text())
                stored.append(Stored(name, obs, nib.load(path), sidecar))
    return Run(done.exit_code, report, store, stored)


def _accounted_for(report: dict[str, Any], inputs: Sequence[Path]) -> None:
    files = sum(path.is_file() for root in inputs for path in ([root] if root.is_file() else root.rglob("*")))
    counted = sum(series["n_instances"] for series in report["series"]) + len(report["unreadable"])
    assert counted == files, f"{counted} of {files} files are accounted for"


def differences(ours: nib.Nifti1Image, theirs: nib.Nifti1Image, rounding: float = 0.0) -> list[str]:
    """In what an image differs from another: shape, place by more than a tenth of a voxel, any value.

    `rounding` allows what a float of 32 bits loses, as a share of the largest value.

    Axes may be flipped or permuted, as long as the affines say so; the fourth axis has one order.
    """
    a, b = np.asarray(ours.dataobj), np.asarray(theirs.dataobj)
    a, b = (v.reshape((*v.shape, 1)[:4]) for v in (a, b))
    to_theirs = np.linalg.inv(theirs.affine) @ ours.affine
    whole = np.round(to_theirs).astype(int)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.shape[:3]], indexing="ij")).reshape(3, -1)
    off = np.abs((to_theirs - whole)[:3] @ np.vstack([corners, np.ones(8)])).max()
    if off > SAME_PLACE_VOXELS:
        return [f"corners lie up to {off:.3f} voxels off"]
    index = np.tensordot(whole[:3, :3], np.indices(a.shape[:3]), axes=1) + whole[:3, 3].reshape(3, 1, 1, 1)
    inside = all((n >= 0).all() and (n < size).all() for n, size in zip(index, b.shape[:3], strict=True))
    if a.size != b.size or a.shape[3] != b.shape[3] or not inside:
        return [f"{a.shape} where {b.shape} is right"]
    moved = b[tuple(index)]
    wrong = np.abs(a.astype(np.float64) - moved) > rounding * np.abs(moved).max()
    return [f"{wrong.mean():.2%} of the voxels have other values"] if wrong.any() else []


def b_vectors(path: Path, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions of a .bvec in RAS+: along the image's axes, the first one mirrored as FSL has it."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    vectors = np.loadtxt(path).T
    if np.linalg.det(axes) > 0:
        vectors = vectors * [-1, 1, 1]
    return np.asarray(vectors @ axes.T)


def action(series: dict[str, Any]) -> str:
    """What the documented reason of a refused series tells a person to do."""
    return EXPLANATIONS[Reason(series["reason"])].action


def one_reason_for_all(run: Run, n_files: int) -> None:
    """Nothing was taken in, one reason with numbers holds back all the files, and the exit code is 1."""
    assert not run.stored
    (series,) = run.report["series"]
    assert series["n_instances"] == n_files
    assert series["reason"] in set(Reason)
    assert re.search(r"\d", series["detail"]), series["detail"]
    assert run.exit_code == 1
