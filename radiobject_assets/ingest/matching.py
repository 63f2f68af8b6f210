"""Does a series belong to a collection? The conditions of `dataset.yaml` against what a header says."""

from __future__ import annotations

import fnmatch
import re
from pathlib import PurePosixPath

from radiobject_assets.dataset.collection_section import CollectionConfig, MatchConfig
from radiobject_assets.dataset.dataset_yaml import RESERVED_NAMES, DatasetSettings
from radiobject_assets.dataset.section import COLLECTION_NAME
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.nifti.bids import IMAGE_SUFFIXES, parse
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import AttributeValue
from radiobject_assets.ingest.naming.label_names import named_labels

# DICOM keyword to the name under which imaging keeps the attribute.
_ATTRIBUTE_OF = {
    "BodyPartExamined": "body_part",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "model_name",
    "ConvolutionKernel": "convolution_kernel",
    "ContrastBolusAgent": "contrast_agent",
    "MagneticFieldStrength": "magnetic_field_strength_t",
    "ScanningSequence": "scanning_sequence",
    "SequenceVariant": "sequence_variant",
    "SequenceName": "sequence_name",
    "MRAcquisitionType": "acquisition_type",
    "EchoTime": "echo_time_ms",
    "InversionTime": "inversion_time_ms",
    "RepetitionTime": "repetition_time_ms",
    "FlipAngle": "flip_angle_deg",
    "SliceThickness": "slice_thickness_mm",
    "KVP": "tube_voltage_kv",
    "PatientPosition": "patient_position",
    "Units": "pixel_units",
}


def matching_collection(
    series: Series, dataset: DatasetSettings
) -> tuple[str | None, CollectionConfig | None]:
    """The first collection of `dataset` whose conditions all hold, with its settings."""
    for name, settings in dataset.collections.items():
        if matches(series, settings.match):
            return name, settings
    return None, None


def collection_by_modality(series: Series, layout: str | None = None) -> str:
    """The collection of a data set that lists none: the modality in small letters.

    Of volumes in files of their own that of their BIDS suffix (`t1w`, `bold`; any under `layout: bids`),
    `seg` where the header says that they are a segmentation, or the format: `nifti`, `mgh`, `nrrd`,
    `metaimage`.
    """
    if not series.series_uid and series.nifti is not None:
        if layout == "bids" and (own := _any_suffix(series.nifti.path.name)):
            return own
        suffix = str(series.attributes.get("suffix", ""))
        if suffix in IMAGE_SUFFIXES:
            return suffix.lower()
        return "seg" if series.kind == "labels" else series.nifti.format
    name = re.sub(r"[^a-z0-9]+", "_", series.modality.lower()).strip("_")
    return name if name[:1].isalpha() else f"modality_{name}".rstrip("_")


def _any_suffix(name: str) -> str:
    """The suffix of a BIDS name that can be a collection's name (`ct`, `adc`); "" if there is none."""
    found = parse(path_text(name))
    suffix = "" if found is None or "sub" not in dict(found.entities) else found.suffix.lower()
    return suffix if COLLECTION_NAME.fullmatch(suffix) and suffix not in RESERVED_NAMES else ""


def matches(series: Series, match: MatchConfig) -> bool:
    """Whether every condition of `match` holds for a series."""
    if match.file_patterns:
        if series.nifti is None:
            return False
        if match.named == "labels" and series.kind != "labels" and not named_labels(series.nifti.told_name):
            return False
        return any(_file_matches(series.nifti, pattern) for pattern in match.file_patterns)
    if series.nifti is not None:
        return False
    if match.modalities and series.modality.upper() not in match.modalities:
        return False
    if match.description is not None and not re.search(match.description, series.description, re.IGNORECASE):
        return False
    return all(
        re.search(pattern, value)
        for keyword, pattern in match.dicom.items()
        for value in values_of(series, keyword)
    )


def _file_matches(nifti: NiftiFile, pattern: str) -> bool:
    """Whether a pattern fits the file's name, or, where it has a `/`, the end of its relative path."""
    if "/" in pattern:
        return PurePosixPath(nifti.told_name).match(pattern)
    return fnmatch.fnmatchcase(nifti.path.name, pattern)


def values_of(series: Series, keyword: str) -> tuple[str, ...]:
    """What the images of a series say of a DICOM attribute, as texts, each once; "" where one says nothing.

    Several values of one attribute are joined by a backslash. Of a volume whose images agree this is one
    text; a condition must hold for all of them, since one slice's value is not the volume's.
    """
    match keyword:
        case "Modality":
            return (series.modality,)
        case "SeriesDescription":
            return (series.description,)
        case "ImageType":
            return tuple(dict.fromkeys(i.image_type for i in series.instances)) or ("",)
        case "SOPClassUID":
            return tuple(dict.fromkeys(i.sop_class_uid for i in series.instances)) or ("",)
    name = _ATTRIBUTE_OF[keyword]
    value = series.attributes.get(name)
    # with pseudonyms obs gets tokens for words that are not known; what is asked for is the text itself
    is_text = any(name in instance.extras for instance in series.instances)
    if (value is not None and not is_text) or not series.instances:
        return (_text(value),)
    return tuple(dict.fromkeys(_text(i.extras.get(name, i.attributes.get(name))) for i in series.instances))


def _text(value: AttributeValue) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
