"""The registry of folder rules: what an audit asks, each by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from radiobject_assets.audit import (
    copy_rules,
    identifier_rules,
    label_rules,
    orientation_rules,
    refusal_rules,
    value_rules,
)
from radiobject_assets.audit.folder_view import FolderView
from radiobject_assets.diagnostics.findings import Report


@dataclass(frozen=True)
class FolderRule:
    """A rule by its name."""

    name: str
    description: str
    look: Callable[[FolderView], Report]


FOLDER_RULES = (
    FolderRule(
        "refused_files", "Every file that may hold a volume can be read.", refusal_rules.refused_files
    ),
    FolderRule("refused_series", "Every series would be taken in.", refusal_rules.refused_series),
    FolderRule("labels_on_images", "Labels lie on the voxels of their image.", label_rules.labels_on_images),
    FolderRule("images_have_labels", "Training images have labels.", label_rules.images_have_labels),
    FolderRule("channels_together", "Cases have all channels, on one grid.", label_rules.channels_together),
    FolderRule("label_values", "Labels of a cohort use the same numbers.", label_rules.values_of_labels),
    FolderRule(
        "orientation_in_headers",
        "Images of a cohort have their axes in one direction.",
        orientation_rules.orientation_in_headers,
    ),
    FolderRule(
        "orientation_in_voxels",
        "No image looks mirrored or swapped against its cohort.",
        orientation_rules.orientation_in_voxels,
    ),
    FolderRule("image_values", "Voxels are numbers, and not all the same.", value_rules.image_values),
    FolderRule(
        "images_once",
        "No image is there twice, under two subjects or in two splits.",
        copy_rules.images_without_copies,
    ),
    FolderRule(
        "labels_once",
        "No labels are under two subjects whose images differ.",
        copy_rules.labels_without_copies,
    ),
    FolderRule("subjects_in_one_split", "No subject is in two splits.", copy_rules.subjects_in_one_split),
    FolderRule("files_once", "No file of a series is there twice.", copy_rules.files_once),
    FolderRule(
        "identifying_names", "No name of a file says who was examined.", identifier_rules.identifying_names
    ),
    FolderRule(
        "identifying_texts",
        "No text in or beside an image says who was examined.",
        identifier_rules.identifying_in_texts,
    ),
)
"""All of them, in the order of a page; headers of DICOM are judged as they are read (`HeaderPersons`)."""
