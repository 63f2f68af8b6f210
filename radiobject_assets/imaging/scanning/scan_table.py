"""A scan as one Arrow table and back, so that what was read of the headers is kept and never read again.

The columns that people filter by are columns; what only the code needs (frames, segments, attributes...)
is in the column `record` as JSON. The round trip is exact.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from radiobject_assets.errors import SchemaError
from radiobject_assets.imaging.dicom.instance import Frame, Instance, Segment
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import ScanResult

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("series_uid", pa.string()),
        ("study_uid", pa.string()),
        ("sop_instance_uid", pa.string()),
        ("modality", pa.string()),
        ("transfer_syntax", pa.string()),
        ("n_frames", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("record", pa.string()),
    ]
)
"""One row per image or unreadable file; `kind` is dicom, nifti or unreadable."""

_FRAME_FIELDS = tuple(f.name for f in fields(Frame))
_SEGMENT_FIELDS = tuple(f.name for f in fields(Segment))
_INSTANCE_FIELDS = tuple(f.name for f in fields(Instance))
_NIFTI_FIELDS = tuple(f.name for f in fields(NiftiFile))


def scan_to_table(scan: ScanResult) -> pa.Table:
    """All records of a scan, in the order instances, NIfTI, unreadable."""
    rows: list[dict[str, Any]] = []
    for i in scan.instances:
        rows.append(
            {
                "kind": "dicom", "path": path_text(i.path), "size_bytes": i.size_bytes,
                "series_uid": i.series_uid, "study_uid": i.study_uid,
                "sop_instance_uid": i.sop_instance_uid, "modality": i.modality,
                "transfer_syntax": i.transfer_syntax, "n_frames": i.n_frames, "record": _instance_json(i),
            }
        )  # fmt: skip
    for n in scan.niftis:
        values = {name: getattr(n, name) for name in _NIFTI_FIELDS}
        values["path"], values["files"] = str(n.path), [str(p) for p in n.files]
        values["data_file"] = None if n.data_file is None else str(n.data_file)
        rows.append(
            {
                "kind": "nifti", "path": path_text(n.path), "size_bytes": n.size_bytes,
                "record": json.dumps(values),
            }
        )  # fmt: skip
    for u in scan.unreadable:
        row = {"kind": "unreadable", "path": path_text(u.path), "reason": str(u.reason), "detail": u.detail}
        if row["path"] != str(u.path):
            row["record"] = json.dumps({"path": str(u.path)})
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def scan_from_table(table: pa.Table) -> ScanResult:
    """The scan that `scan_to_table` was given.

    Raises
    ------
    SchemaError
        If columns are missing or a record cannot be understood.
    """
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise SchemaError(f"the scan table lacks the columns {', '.join(missing)}")
    instances, niftis, unreadable = [], [], []
    for row in table.select(["kind", "path", "reason", "detail", "record"]).to_pylist():
        try:
            if row["kind"] == "dicom":
                instances.append(_instance_from_json(row["record"]))
            elif row["kind"] == "nifti":
                niftis.append(_nifti_from_json(row["record"]))
            else:
                path = json.loads(row["record"])["path"] if row["record"] else row["path"]
                unreadable.append(Unreadable(Path(path), Reason(row["reason"]), row["detail"]))
        except (TypeError, ValueError, KeyError) as error:
            raise SchemaError(f"a record of the scan table cannot be understood: {error}") from error
    return ScanResult(tuple(instances), tuple(niftis), tuple(unreadable))


def _instance_json(instance: Instance) -> str:
    values = {name: getattr(instance, name) for name in _INSTANCE_FIELDS}
    values["path"] = str(instance.path)
    values["frames"] = [[getattr(frame, name) for name in _FRAME_FIELDS] for frame in instance.frames]
    values["segments"] = [
        [getattr(segment, name) for name in _SEGMENT_FIELDS] for segment in instance.segments
    ]
    return json.dumps(values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _instance_from_json(text: str) -> Instance:
    values = json.loads(text)
    values["path"] = Path(values["path"])
    values["frames"] = tuple(Frame(*map(_tuples, frame)) for frame in values["frames"])
    values["segments"] = tuple(Segment(*map(_tuples, segment)) for segment in values["segments"])
    values["references"] = tuple(values["references"])
    values["reference_sops"] = tuple(values["reference_sops"])
    values["concatenation"] = _tuples(values["concatenation"])
    values["uid_place"] = _tuples(values.get("uid_place"))
    for name in ("reference_owners", "reference_classes"):
        values[name] = tuple(values.get(name, ()))
    return Instance(**values)


def _nifti_from_json(text: str) -> NiftiFile:
    values = json.loads(text)
    values["path"] = Path(values["path"])
    values["files"] = tuple(map(Path, values["files"]))
    values["data_file"] = None if values["data_file"] is None else Path(values["data_file"])
    for name in ("shape", "affine", "intent_parameters", "other_place", "steps", "segments"):
        values[name] = _tuples(values.get(name, []))
    return NiftiFile(**values)
