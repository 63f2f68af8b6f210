"""Rows as an ingest of CT series makes them, and how two states of a table are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from blake3 import blake3

KEY, SUBJECT = "obs_id", "obs_subject_id"
CORE_FILTER, OTHER_FILTER = ("spacing_z_mm", 4.0), ("exposure_mas", 180.0)
"""A column that every volume has, and one that only an ingest of CT adds: rows with at least this value."""


def subject_of(number: int) -> str:
    """An id as a public data set has it."""
    return f"LUNG1-{number // 2:06d}"


def key_of(number: int) -> str:
    """Subject, collection and a digest, as ingest names a volume; two volumes for each subject."""
    return f"{subject_of(number)}_ct_{hashlib.sha256(str(number).encode()).hexdigest()[:8]}"


def uid(root: int, number: int) -> str:
    """A DICOM UID of the usual length."""
    digits = int(hashlib.sha256(f"{root}.{number}".encode()).hexdigest()[:26], 16)
    return f"1.3.6.1.4.1.32722.99.99.{digits}"


def made_row(number: int, version: int = 0) -> dict[str, Any]:
    """One row of 55 columns; `version` changes what a second ingest of the same volume would change."""
    noise = hashlib.sha256(f"{number}.{version}".encode()).hexdigest()
    part = [int(noise[i : i + 4], 16) / 65_536 for i in range(0, 48, 4)]
    spacing = (0.5 + part[0] / 2, 0.5 + part[0] / 2, 0.5 + number % 10 / 2)
    affine = {f"affine_{i}{j}": 0.0 for i in range(3) for j in range(4)}
    affine |= {f"affine_{i}3": -200.0 * part[i + 1] for i in range(3)}
    affine |= {"affine_00": -spacing[0], "affine_11": -spacing[1], "affine_22": spacing[2]}
    return {
        KEY: key_of(number),
        SUBJECT: subject_of(number),
        "volume": noise[:32],
        "ndim": 3,
        "size_x": 512,
        "size_y": 512,
        "size_z": 80 + int(part[4] * 200),
        "size_t": 1,
        "dtype": "int16",
        **affine,
        "spacing_x_mm": spacing[0],
        "spacing_y_mm": spacing[1],
        "spacing_z_mm": spacing[2],
        "axcodes": "LPS",
        "orientation_source": "dicom",
        "slope": 1.0,
        "intercept": -1024.0,
        "kind": "image",
        "modality": "CT",
        "series_uid": uid(1, number),
        "study_uid": uid(2, number // 2),
        "component": None,
        "arrival": f"2026-11-{1 + number % 28:02d}",
        "source_digest": f"blake3:{noise}",
        "labels_of_collection": None,
        "labels_of": None,
        "voxel_digest": f"blake3:{noise[::-1]}",
        "voxel_bytes": 512 * 512 * 160,
        "stored_bytes": 15_000_000 + int(part[5] * 1e7),
        "writer_version": "0.1.0",
        "written_at": 1_790_000_000_000 + number * 1000 + version,
        "manufacturer": ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips")[number % 3],
        "model_name": ("Sensation 16", "LightSpeed VCT", "Brilliance 64")[number % 3],
        "slice_thickness_mm": spacing[2],
        "kvp": 100.0 + 20 * (number % 3),
        "exposure_mas": round(200 * part[6], 1),
        "convolution_kernel": ("B30f", "STANDARD", "C")[number % 3],
        "body_part": "CHEST",
        "series_description": f"Thorax {spacing[2]:g} B30f",
        "contrast_agent": "yes" if number % 2 else None,
        "tube_current_ma": round(300 * part[7], 1),
        "gantry_tilt_deg": 0.0,
        "patient_position": "HFS",
        "dicom_instances": 80 + int(part[4] * 200),
    }


_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64(), type(None): pa.string()}
SCHEMA = pa.schema([(name, _TYPES[type(value)]) for name, value in made_row(1).items()])


def made_rows(numbers: Iterable[int], version: int = 0) -> pa.Table:
    """Rows with these numbers as a table."""
    return pa.Table.from_pylist([made_row(number, version) for number in numbers], SCHEMA)


State = Mapping[str, str]
"""Digest of every row by its key."""


def state_of(rows: pa.Table) -> State:
    """What a table shows, in a form in which two states can be compared row by row.

    A key that is there twice is an error that nobody told: it gets a digest of its own.
    """
    found: dict[str, str] = {}
    for row in rows.to_pylist():
        known = {name: row[name] for name in SCHEMA.names if row.get(name) is not None}
        digest = blake3(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest(16)
        found[row[KEY]] = "twice" if row[KEY] in found else digest
    return found
