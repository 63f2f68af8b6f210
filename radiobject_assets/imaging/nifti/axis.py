"""What the fourth axis of a NIfTI image is, and the value of each of its points, as far as its files say.

obs has the name in `fourth_axis` and the values in `fourth_axis_values`, a JSON list. Of a header alone only
time is known: channels are a convention of data sets (`dataset.json` of the Medical Segmentation Decathlon
and nnU-Net, or dataset.yaml).
Source: nifti1.h (xyzt_units, pixdim[4], intent codes); BIDS 1.10 (b-values).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radiobject_assets.imaging.axes import AXIS, COMPONENTS, axis_attributes
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.source import AttributeValue

DATASET_JSON = "dataset.json"
_VECTORS = (1006, 1007)  # displacement vector, vector
_MAX_JSON_BYTES = 16 << 20
# Names of channels as data sets have them (T1w, FLAIR, MR-DWI, CT); whatever is longer may be a sentence.
_CHANNEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _+.\-]{0,31}")
_LOOKS_LIKE_NUMBER = re.compile(r"\d{6}")


def fourth_axis(nifti: NiftiFile) -> dict[str, AttributeValue]:
    """What the header and the sidecars of an image say of its fourth axis; empty for one of three axes."""
    if nifti.component_dtype is not None:
        return axis_attributes("component", COMPONENTS[nifti.components])
    if len(nifti.shape) != 4 or nifti.channel is not None:
        return {}
    n_points = nifti.shape[3]
    if nifti.fifth_axis:
        vector = nifti.intent_code in _VECTORS and n_points == 3
        return axis_attributes("component", ("x", "y", "z")) if vector else axis_attributes("unknown")
    if AXIS in nifti.attributes:  # a file beside the image said it
        return {}
    weights = _numbers(nifti.attributes.get("b_values_s_per_mm2"))
    if len(weights) == n_points:
        return axis_attributes("b_value", weights)
    if nifti.time_step_s is not None:
        return axis_attributes("time", [round(i * nifti.time_step_s, 6) for i in range(n_points)])
    return axis_attributes("unknown")


def _numbers(text: object) -> list[float]:
    try:
        found: Any = json.loads(str(text))
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def with_channel_names(
    niftis: Iterable[NiftiFile], others: Iterable[Path], texts: Mapping[Path, bytes]
) -> list[NiftiFile]:
    """Images with the names of their channels, where a dataset.json above their folder has one for each.

    Parameters
    ----------
    others
        Paths of files that are no images.
    texts
        Content of files that are not on disk.
    """
    found = list(niftis)
    if not any(len(nifti.shape) == 4 for nifti in found):
        return found
    folders = {path.parent: path for path in others if path.name == DATASET_JSON}
    names = {folder: _channel_names(path, texts) for folder, path in folders.items()}
    described = []
    for nifti in found:
        told = names.get(nifti.path.parent.parent, ())
        if len(nifti.shape) == 4 and not nifti.fifth_axis and len(told) == nifti.shape[3]:
            nifti = replace(nifti, attributes={**nifti.attributes, **axis_attributes("channel", told)})
        described.append(nifti)
    return described


def _channel_names(path: Path, texts: Mapping[Path, bytes]) -> tuple[str, ...]:
    """`channel_names` (nnU-Net) or `modality` (Decathlon) of a dataset.json, in order; () without them."""
    try:
        data = texts.get(path)
        if data is None:
            data = path.read_bytes() if path.stat().st_size <= _MAX_JSON_BYTES else b""
        content: Any = json.loads(data)
    except (OSError, ValueError, RecursionError):
        return ()
    told = content.get("channel_names") or content.get("modality") if isinstance(content, dict) else None
    if not isinstance(told, dict) or sorted(told) != sorted(str(i) for i in range(len(told))):
        return ()
    names = tuple(told[str(i)] for i in range(len(told)))
    harmless = all(
        isinstance(name, str) and _CHANNEL_NAME.fullmatch(name) and not _LOOKS_LIKE_NUMBER.search(name)
        for name in names
    )
    return names if harmless and len(set(names)) == len(names) > 1 else ()
