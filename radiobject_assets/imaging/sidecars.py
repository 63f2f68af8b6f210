"""What stands beside a NIfTI image in a BIDS folder: its JSON sidecar, b-values and b-vectors.

Only allow-listed acquisition parameters are taken over (BIDS gives times in seconds, obs has milliseconds);
everything else in a sidecar stays where it is. Source: BIDS specification 1.10, MRI and PET metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.source import AttributeValue

SUFFIXES = (".json", ".bval", ".bvec")
_MAX_BYTES = 16 << 20

_TEXTS = {
    "Modality": "modality", "Manufacturer": "manufacturer", "ManufacturersModelName": "model_name",
    "BodyPartExamined": "body_part", "ScanningSequence": "scanning_sequence",
    "SequenceVariant": "sequence_variant", "MRAcquisitionType": "acquisition_type",
    "PatientPosition": "patient_position", "ConvolutionKernel": "convolution_kernel", "Units": "pixel_units",
}  # fmt: skip
_NUMBERS = {
    "MagneticFieldStrength": ("magnetic_field_strength_t", 1.0), "EchoTime": ("echo_time_ms", 1000.0),
    "RepetitionTime": ("repetition_time_ms", 1000.0), "InversionTime": ("inversion_time_ms", 1000.0),
    "FlipAngle": ("flip_angle_deg", 1.0), "SliceThickness": ("slice_thickness_mm", 1.0),
    "EchoNumber": ("echo_number", 1.0), "SeriesNumber": ("series_number", 1.0),
    "XRayTubeCurrent": ("tube_current_ma", 1.0), "KVP": ("tube_voltage_kv", 1.0),
}  # fmt: skip


COLUMN_OF = _TEXTS | {key: column for key, (column, _) in _NUMBERS.items()}
"""Keys of a sidecar that are taken over, to their column of obs."""


def sidecars_of(image: Path) -> tuple[Path, ...]:
    """Paths that the sidecars of an image would have (they need not exist)."""
    name = image.name
    for suffix in (".gz", ".nii", ".img", ".hdr"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return tuple(image.with_name(name + suffix) for suffix in SUFFIXES)


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
            found.update(_from_json(text))
        else:
            found.update(_from_gradients(path.suffix, text, affine))
    return found


def _from_json(text: str) -> dict[str, AttributeValue]:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, Mapping):
        return {}
    found: dict[str, AttributeValue] = {}
    for key, name in _TEXTS.items():
        value = content.get(key)
        if isinstance(value, str) and value:
            found[name] = value
    for key, (name, factor) in _NUMBERS.items():
        value = content.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[name] = round(value * factor, 9) if factor != 1 else value
    return found


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


def to_sidecar(attributes: Mapping[str, object]) -> dict[str, str | float]:
    """The BIDS keys of acquisition parameters: the way back of `read_sidecars`, times in seconds.

    Parameters
    ----------
    attributes
        Columns of an obs row; what BIDS has no name for is left out.
    """
    found: dict[str, str | float] = {}
    for key, name in _TEXTS.items():
        value = attributes.get(name)
        if isinstance(value, str) and value:
            found[key] = value
    for key, (name, factor) in _NUMBERS.items():
        number = attributes.get(name)
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
            found[key] = round(number / factor, 9) if factor != 1 else number
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
