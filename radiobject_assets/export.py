"""Out of the store again: NIfTI files with their sources beside them, and a description of what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store.layout import FORMAT_VERSION
from radiobject_assets.store.radi_object import RadiObject
from radiobject_assets.store.snapshots import list_snapshots
from radiobject_assets.store.volume import Volume

OnProgress = Callable[[int, int, str], None]

_UNSAFE_IN_FILE_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
# BIDS data types by DICOM modality; what BIDS does not know goes to a folder of the modality's name.
_BIDS_DATATYPE = {"MR": "anat", "PT": "pet"}


def describe_store(uri: str) -> dict[str, Any]:
    """What a store holds: subjects, collections with shapes and sizes, snapshots. JSON-ready.

    Raises
    ------
    StorageError
        There is no store at `uri`.
    """
    radi = RadiObject(uri)
    subjects = radi.obs_meta.read()
    return {
        "uri": uri,
        "format_version": FORMAT_VERSION,
        "n_subjects": len(radi),
        "subject_columns": [str(c) for c in subjects.columns if c != "obs_subject_id"],
        "collections": [_describe_collection(name, radi) for name in radi.collection_names],
        "snapshots": [
            {
                "name": snapshot.name,
                "created_at": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).isoformat(),
                "timestamp_ms": snapshot.timestamp_ms,
                "counts": dict(snapshot.counts),
                "digest": snapshot.digest,
            }
            for snapshot in list_snapshots(uri)
        ],
    }


def _describe_collection(name: str, radi: RadiObject) -> dict[str, Any]:
    obs = radi.collection(name).to_obs()
    shapes = {_shape(row) for row in obs.to_dict("records")}
    return {
        "name": name,
        "kinds": sorted(set(obs["kind"].dropna())),
        "n_volumes": len(obs),
        "n_subjects": int(obs["obs_subject_id"].nunique()),
        "shapes": [list(shape) for shape in sorted(shapes)],
        "dtypes": sorted(set(obs["dtype"])),
        "modalities": sorted(set(obs["modality"].dropna())),
        "voxel_bytes": int(obs["voxel_bytes"].sum()),
        "stored_bytes": int(obs["stored_bytes"].sum()),
    }


def _shape(row: dict[Any, Any]) -> tuple[int, ...]:
    return tuple(int(row[f"size_{axis}"]) for axis in "xyzt"[: int(row["ndim"])])


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
        `nifti`: `<out>/<collection>/<obs_id>.nii.gz`. `bids`: `<out>/sub-<label>/<datatype>/...` with
        `participants.tsv` and `dataset_description.json`; label volumes go to `derivatives/segmentations`.

    Raises
    ------
    ConfigurationError
        An unknown layout or collection.
    StorageError
        There is no store at `uri`.
    """
    if layout not in ("nifti", "bids"):
        raise ConfigurationError(f"--format {layout}: use nifti or bids")
    radi = RadiObject(uri)
    names = list(radi.collection_names) if collections is None else list(collections)
    for name in names:
        if name not in radi.collection_names:
            raise ConfigurationError(
                f"{uri} has no collection {name!r}; it has: {', '.join(radi.collection_names) or 'none'}"
            )
    rows = {name: radi.collection(name).to_obs().to_dict("records") for name in names}
    total = sum(map(len, rows.values()))
    written: list[Path] = []
    labels = bids_labels(map(str, radi.obs_subject_ids))
    for name in names:
        collection = radi.collection(name)
        for row in rows[name]:
            obs_id = str(row["obs_id"])
            relative = _nifti_path(name, row) if layout == "nifti" else _bids_path(name, row, labels)
            path = out_dir / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_volume(collection[obs_id], row, name, path)
            written.append(path)
            if on_progress is not None:
                on_progress(len(written), total, name)
    if layout == "bids":
        _write_bids_tables(radi, out_dir, labels)
    return written


def _write_volume(volume: Volume, row: dict[Any, Any], collection: str, path: Path) -> None:
    # under another name first: an export that was interrupted leaves no half file under the right one
    partial = path.with_name(f".partial-{path.name}")
    volume.to_nifti(str(partial), compression=True)
    partial.replace(path)
    sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    sidecar.write_text(
        json.dumps(_sidecar(row, collection, volume), indent=2, ensure_ascii=False) + "\n", "utf-8"
    )


def _sidecar(row: dict[Any, Any], collection: str, volume: Volume) -> dict[str, Any]:
    """Where a volume comes from and how it was acquired, without the store's own bookkeeping."""
    internal = re.compile(r"affine_\d\d|size_[xyzt]|ndim|volume|voxel_bytes|stored_bytes|obs_subject_id")
    described = {
        str(key): _plain(value)
        for key, value in row.items()
        if not internal.fullmatch(str(key)) and not pd.isna(value) and value != ""
    }
    return {
        "collection": collection,
        "subject_id": str(row["obs_subject_id"]),
        **described,
        "SeriesInstanceUID": _plain(row.get("series_uid")) or None,
        "StudyInstanceUID": _plain(row.get("study_uid")) or None,
        "sources": list(volume.sources),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def _file_name(text: str) -> str:
    """`text` as a file name: characters that no file name may hold become %XX, and it never is a path."""
    safe = _UNSAFE_IN_FILE_NAMES.sub(lambda found: f"%{ord(found.group()):02X}", text)
    return safe if safe.strip(".") else safe.replace(".", "%2E")


def _nifti_path(collection: str, row: dict[Any, Any]) -> Path:
    return Path(collection) / f"{_file_name(str(row['obs_id']))}.nii.gz"


def _bids_path(collection: str, row: dict[Any, Any], labels: Mapping[str, str]) -> Path:
    label = labels[str(row["obs_subject_id"])]
    modality = str(row.get("modality") or "")
    datatype = _BIDS_DATATYPE.get(modality, modality.lower() or "anat")
    acquisition = re.sub(r"[^A-Za-z0-9]", "", str(row["obs_id"]).rsplit("_", 1)[-1])
    plain_name = re.sub(r"[^A-Za-z0-9]", "", collection)
    if row.get("kind") == "labels":
        name = f"sub-{label}_acq-{acquisition}_desc-{plain_name}_dseg.nii.gz"
        return Path("derivatives/segmentations") / f"sub-{label}" / "anat" / name
    return Path(f"sub-{label}") / datatype / f"sub-{label}_acq-{acquisition}_{plain_name}.nii.gz"


def bids_labels(subject_ids: Iterable[str]) -> dict[str, str]:
    """A BIDS subject label (letters and digits only) for each subject id, no two the same."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for subject_id in sorted(subject_ids):
        stem = re.sub(r"[^A-Za-z0-9]", "", subject_id.removeprefix("sub-")) or "x"
        label, number = stem, 1
        while label in taken:
            number += 1
            label = f"{stem}x{number}"
        taken.add(label)
        labels[subject_id] = label
    return labels


def _write_bids_tables(radi: RadiObject, out_dir: Path, labels: Mapping[str, str]) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    description = {"Name": "Exported by radiobject-assets", "BIDSVersion": "1.9.0", "DatasetType": "raw"}
    (out_dir / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")
    subjects = radi.obs_meta.read()
    table = subjects.rename(columns={"obs_subject_id": "source_subject_id"})
    table.insert(0, "participant_id", [f"sub-{labels[str(s)]}" for s in subjects["obs_subject_id"]])
    table.to_csv(out_dir / "participants.tsv", sep="\t", index=False, na_rep="n/a")
