"""What stands beside a NIfTI image in a BIDS folder: its JSON sidecar, b-values and b-vectors.

Only allow-listed acquisition parameters are taken over (BIDS gives times in seconds, obs has milliseconds);
everything else in a sidecar stays where it is. Source: BIDS specification 1.10, MRI and PET metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.dicom.tags import ATTRIBUTES, MODALITY
from radiobject_assets.imaging.dicom.terms import sidecar_in_terms
from radiobject_assets.imaging.files.volume_names import SIDECAR_SUFFIXES, without_ending
from radiobject_assets.imaging.source import AttributeValue

_MAX_BYTES = 16 << 20

_TEXTS = {
    "Modality": "modality", "Manufacturer": "manufacturer", "ManufacturersModelName": "model_name",
    "BodyPartExamined": "body_part", "ScanningSequence": "scanning_sequence",
    "SequenceVariant": "sequence_variant", "MRAcquisitionType": "acquisition_type",
    "PatientPosition": "patient_position", "SequenceName": "sequence_name",
    "ConvolutionKernel": "convolution_kernel", "Units": "pixel_units",
}  # fmt: skip
_NUMBERS = {
    "MagneticFieldStrength": ("magnetic_field_strength_t", 1.0), "EchoTime": ("echo_time_ms", 1000.0),
    "RepetitionTime": ("repetition_time_ms", 1000.0), "InversionTime": ("inversion_time_ms", 1000.0),
    "FlipAngle": ("flip_angle_deg", 1.0), "SliceThickness": ("slice_thickness_mm", 1.0),
    "EchoNumber": ("echo_number", 1.0), "SeriesNumber": ("series_number", 1.0),
    "EchoTrainLength": ("echo_train_length", 1.0),
    "EffectiveEchoSpacing": ("effective_echo_spacing_s", 1.0),
    "TotalReadoutTime": ("total_readout_time_s", 1.0),
    "XRayTubeCurrent": ("tube_current_ma", 1.0), "KVP": ("tube_voltage_kv", 1.0),
}  # fmt: skip


_DIRECTIONS = {"PhaseEncodingDirection": "phase_encoding_ras", "SliceEncodingDirection": "slice_encoding_ras"}
"""Directions: of a voxel axis (i, j, k; - against it) in a sidecar, a unit vector (RAS+) in obs."""

COLUMN_OF = (
    _TEXTS
    | {key: column for key, (column, _) in _NUMBERS.items()}
    | _DIRECTIONS
    | {"SliceTiming": "slice_timing_s"}
    | {"FrameTimesStart": "fourth_axis_values", "FrameDuration": "frame_duration_s"}
)
"""Keys of a sidecar that are taken over, to their column of obs."""


def sidecars_of(image: Path) -> tuple[Path, ...]:
    """Paths that the sidecars of an image would have (they need not exist)."""
    name = without_ending(image.name)
    return tuple(image.with_name(name + suffix) for suffix in SIDECAR_SUFFIXES)


def read_sidecars(
    paths: Sequence[Path], affine: NDArray[np.float64], texts: Mapping[Path, bytes] | None = None
) -> dict[str, AttributeValue]:
    """Acquisition parameters of the sidecars that exist; one that cannot be understood gives nothing.

    Parameters
    ----------
    affine
        (4, 4) of the image: turns b-vectors, which are in image axes, to RAS+ directions.
    texts
        Content of paths that are not on disk (members of archives).
    """
    found: dict[str, AttributeValue] = {}
    for path in paths:
        try:
            if texts is not None and path in texts:
                text = texts[path].decode("utf-8")
            else:
                text = path.read_text(encoding="utf-8") if path.stat().st_size <= _MAX_BYTES else ""
        except (OSError, UnicodeDecodeError):
            continue
        if path.suffix == ".json":
            found.update(_from_json(text, affine))
        else:
            found.update(_from_gradients(path.suffix, text, affine))
    return found


def _from_json(text: str, affine: NDArray[np.float64]) -> dict[str, AttributeValue]:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, AttributeValue] = {}
    for key, name in _TEXTS.items():
        value = content.get(key)
        tag = ATTRIBUTES[name][0] if name in ATTRIBUTES else MODALITY
        if isinstance(value, str) and (text := sidecar_in_terms(tag, value)):
            found[name] = text
    for key, (name, factor) in _NUMBERS.items():
        value = content.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[name] = round(value * factor, 9) if factor != 1 else value
    for key, name in _DIRECTIONS.items():
        vector = _vector_of_axis(content.get(key), affine)
        if vector is not None:
            found[name] = json.dumps(vector)
    timing = content.get("SliceTiming")
    if isinstance(timing, list) and timing and all(isinstance(value, int | float) for value in timing):
        found["slice_timing_s"] = json.dumps(timing)
        if "slice_encoding_ras" not in found:  # BIDS: along the third axis where nothing is said
            found["slice_encoding_ras"] = json.dumps(_vector_of_axis("k", affine))
    return found | _frames(content)


def _frames(content: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Start and duration of the frames of a PET image (BIDS: both in seconds, one value for each)."""
    starts, durations = content.get("FrameTimesStart"), content.get("FrameDuration")
    found: dict[str, AttributeValue] = {}
    if _numbers(starts) and all(later > earlier for earlier, later in pairwise(starts)):
        found |= {"fourth_axis": "time", "fourth_axis_unit": "s"}
        found["fourth_axis_values"] = json.dumps([float(value) for value in starts])
        if _numbers(durations) and len(durations) == len(starts):
            found["frame_duration_s"] = json.dumps([float(value) for value in durations])
    return found


def _numbers(values: object) -> TypeGuard[list[float]]:
    return (
        isinstance(values, list)
        and len(values) > 1
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    )


def _vector_of_axis(code: object, affine: NDArray[np.float64]) -> list[float] | None:
    if code not in ("i", "j", "k", "i-", "j-", "k-"):
        return None
    column = affine[:3, "ijk".index(str(code)[0])] * (-1 if str(code).endswith("-") else 1)
    length = float(np.linalg.norm(column))
    return [round(float(value) / length, 9) + 0.0 for value in column] if length > 0 else None


def _axis_of_vector(text: object, affine: NDArray[np.float64]) -> str | None:
    """The voxel axis that lies nearest to a direction; None where there is no direction."""
    try:
        vector = np.array(json.loads(str(text)), np.float64)
    except ValueError:
        return None
    if vector.shape != (3,) or not np.isfinite(vector).all():
        return None
    along = (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).T @ vector
    axis = int(np.abs(along).argmax())
    return "ijk"[axis] + ("-" if along[axis] < 0 else "")


def _from_gradients(suffix: str, text: str, affine: NDArray[np.float64]) -> dict[str, AttributeValue]:
    try:
        rows = [[float(value) for value in line.split()] for line in text.splitlines() if line.strip()]
    except ValueError:
        return {}
    if suffix == ".bval" and len(rows) == 1:
        return {"b_values_s_per_mm2": json.dumps(rows[0])}
    if suffix == ".bvec" and len(rows) == 3 and len({len(row) for row in rows}) == 1:
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        vectors = np.array(rows).T
        if np.linalg.det(axes) > 0:  # FSL mirrors the first axis of images that are not "radiological"
            vectors = vectors * [-1, 1, 1]
        return {"b_vectors_ras": json.dumps((vectors @ axes.T + 0.0).round(9).tolist())}
    return {}


def to_sidecar(
    attributes: Mapping[str, object], affine: NDArray[np.float64] | None = None
) -> dict[str, str | float | list[float]]:
    """The BIDS keys of acquisition parameters: the way back of `read_sidecars`, times in seconds.

    Parameters
    ----------
    attributes
        Columns of an obs row; what BIDS has no name for is left out.
    affine
        (4, 4) of the image beside which the sidecar will lie; without it, no direction can be told.
    """
    found: dict[str, str | float | list[float]] = {}
    for key, name in _TEXTS.items():
        value = attributes.get(name)
        if isinstance(value, str) and value:
            found[key] = value
    for key, (name, factor) in _NUMBERS.items():
        number = attributes.get(name)
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
            found[key] = round(number / factor, 9) if factor != 1 else number
    starts, durations = attributes.get("fourth_axis_values"), attributes.get("frame_duration_s")
    if attributes.get("fourth_axis") == "time" and isinstance(starts, str) and isinstance(durations, str):
        found["FrameTimesStart"], found["FrameDuration"] = json.loads(starts), json.loads(durations)
    if affine is None:
        return found
    for key, name in _DIRECTIONS.items():
        axis = _axis_of_vector(attributes.get(name), affine)
        if axis is not None:
            found[key] = axis
    timing = attributes.get("slice_timing_s")
    if isinstance(timing, str) and "SliceEncodingDirection" in found:
        found["SliceTiming"] = json.loads(timing)
    return found


def to_gradients(attributes: Mapping[str, object], affine: NDArray[np.float64]) -> tuple[str, str] | None:
    """Content of the `.bval` and `.bvec` files of a diffusion volume; None for others.

    The vectors are in image axes, the first one mirrored where the affine is right-handed (FSL's convention,
    which BIDS takes over).
    """
    try:
        values = np.array(json.loads(str(attributes["b_values_s_per_mm2"])), np.float64)
        vectors = np.array(json.loads(str(attributes["b_vectors_ras"])), np.float64)
    except (KeyError, ValueError):
        return None
    if values.ndim != 1 or vectors.shape != (len(values), 3):
        return None
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    turned = vectors @ np.linalg.inv(axes).T
    if np.linalg.det(axes) > 0:
        turned = turned * [-1, 1, 1]
    rows = [" ".join(f"{value:.9g}" for value in row) for row in (turned + 0.0).T]
    return " ".join(f"{value:.9g}" for value in values) + "\n", "\n".join(rows) + "\n"
