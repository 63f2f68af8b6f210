"""Out of the store again: NIfTI files with their sources beside them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.export.bids_layout import BidsNames, write_bids_tables
from radiobject_assets.imaging.nifti.sidecars import to_gradients, to_sidecar
from radiobject_assets.store import RadiObject, Volume, local_path, write_nifti

OnProgress = Callable[[int, int, str], None]

# `%` is among them, since it marks the others: two ids never get one name.
_UNSAFE_IN_FILE_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*%]')
# File systems allow 255 bytes; what is added to a name (suffix, a temporary file's mark) takes some of them.
_LONGEST_NAME_BYTES = 230
# What the store keeps for itself; the rest of a row goes into the sidecar.
_INTERNAL = re.compile(r"affine_\d\d|size_[xyzt]|ndim|volume|voxel_bytes|stored_bytes|obs_subject_id")


def export_store(
    uri: str,
    out_dir: Path,
    *,
    collections: Sequence[str] | None = None,
    layout: str = "nifti",
    on_progress: OnProgress | None = None,
) -> list[Path]:
    """Write every volume as `.nii.gz` with the stored integers, slope, intercept and affine, and a `.json`.

    Parameters
    ----------
    layout
        `nifti`: `<out>/<collection>/<obs_id>.nii.gz`; characters of an id that no file name may have
        become `%XX`, and a very long id is cut and ends with a digest. `bids`: see `bids_layout.BidsNames`.

    Raises
    ------
    ConfigurationError
        An unknown layout or collection, or an `out_dir` in the store itself.
    StorageError
        There is no store at `uri`, or a file can't be written.
    """
    if layout not in ("nifti", "bids"):
        raise ConfigurationError(f"--format {layout}: use nifti or bids")
    radi = RadiObject(uri)
    store = local_path(uri)
    if store is not None and store.resolve() in (out_dir.resolve(), *out_dir.resolve().parents):
        raise ConfigurationError(f"{out_dir} lies in the store {uri}: export to another folder")
    names = list(radi.collection_names) if collections is None else list(dict.fromkeys(collections))
    for name in names:
        if name not in radi.collection_names:
            raise ConfigurationError(
                f"{uri} has no collection {name!r}; it has: {', '.join(radi.collection_names) or 'none'}"
            )
    rows = {name: radi.collection(name).to_obs().to_dict("records") for name in names}
    bids = BidsNames(map(str, radi.obs_subject_ids)) if layout == "bids" else None
    total = sum(map(len, rows.values()))
    written: list[Path] = []
    for name in names:
        collection = radi.collection(name)
        for row in rows[name]:
            relative = bids.path(name, row) if bids is not None else nifti_path(name, str(row["obs_id"]))
            path = out_dir / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_volume(collection[str(row["obs_id"])], row, name, path)
            written.append(path)
            if on_progress is not None:
                on_progress(len(written), total, name)
    if bids is not None:
        write_bids_tables(radi.obs_meta.read(), out_dir, bids)
    return written


def _write_volume(volume: Volume, row: dict[Any, Any], collection: str, path: Path) -> None:
    write_nifti(volume, path, repetition_time_s=_time_step_s(row))
    sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    text = json.dumps(_sidecar(row, collection, volume), indent=2, ensure_ascii=False) + "\n"
    sidecar.write_text(text, encoding="utf-8")
    gradients = to_gradients(row, volume.affine)
    if gradients is not None:
        for suffix, content in zip((".bval", ".bvec"), gradients, strict=True):
            sidecar.with_suffix(suffix).write_text(content, encoding="utf-8")


def _time_step_s(row: dict[Any, Any]) -> float | None:
    """Seconds between the time points of a 4D volume, as its files gave them."""
    for column, seconds in (("time_step_s", 1.0), ("volume_interval_s", 1.0), ("repetition_time_ms", 1e-3)):
        value = row.get(column)
        if value is not None and not pd.isna(value) and float(value) > 0:
            return float(value) * seconds
    return None


def _sidecar(row: dict[Any, Any], collection: str, volume: Volume) -> dict[str, Any]:
    """Where a volume comes from and how it was acquired: the columns of obs, and BIDS' names for them."""
    described = {
        str(key): _plain(value)
        for key, value in row.items()
        if not _INTERNAL.fullmatch(str(key)) and not pd.isna(value) and value != ""
    }
    return {
        "collection": collection,
        "subject_id": str(row["obs_subject_id"]),
        **described,
        **to_sidecar({str(key): _plain(value) for key, value in row.items()}, volume.affine),
        "SeriesInstanceUID": _plain(row.get("series_uid")) or None,
        "StudyInstanceUID": _plain(row.get("study_uid")) or None,
        "sources": list(volume.sources),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def nifti_path(collection: str, obs_id: str) -> Path:
    """Where a volume goes: an id never leaves its folder, and no two ids share a file."""
    name = _UNSAFE_IN_FILE_NAMES.sub(lambda found: f"%{ord(found.group()):02X}", obs_id)
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        kept = name.encode()[: _LONGEST_NAME_BYTES - 17].decode("utf-8", errors="ignore")
        name = f"{kept}-{hashlib.blake2b(obs_id.encode(), digest_size=8).hexdigest()}"
    return Path(collection) / f"{name}.nii.gz"
