"""How public data sets lay out their files: what `layout:` of a dataset.yaml stands for.

A layout is settings and nothing else: the pattern that finds the subject in a file's path, and collections.
What the file itself says comes first (`with_layout`). docs/layouts.md shows each with its folders.
Sources: BIDS 1.10; nnU-Net v2 "dataset format"; Medical Segmentation Decathlon; TotalSegmentator data set
2.0; BraTS 2018 to 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ENDING = r"\.(?:nii|nrrd|nhdr|mha|mhd|mgz|mgh)(?:\.gz)?$"
# of `naming.label_names` those that stand before or after a subject's id
_LABEL = r"segmentations?|segm|seg|dseg|masks?|msk|labels?|groundtruth|gt|rois?"
_IMAGE = r"image|img|volume|vol"
_NAMED_LABELS = {"files": ["*"], "named": "labels"}
# nnU-Net numbers the channels of an image with four digits; ten are more than any published data set has
_CHANNELS = tuple(f"{number:04d}" for number in range(10))


@dataclass(frozen=True)
class Layout:
    """Settings for data that is laid out in one way.

    file_name
        `subjects.file_name`.
    collections
        As dataset.yaml has them; the first that matches counts.
    rest_by_modality
        Whether what no collection matches goes to the collection named after its modality or BIDS suffix.
    subjects
        Other settings of `subjects`.
    """

    meaning: str
    file_name: str
    collections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rest_by_modality: bool = False
    subjects: Mapping[str, Any] = field(default_factory=dict)


def _files(*patterns: str) -> dict[str, list[str]]:
    return {"files": list(patterns)}


def _images(*patterns: str, **settings: Any) -> dict[str, Any]:
    return {"match": _files(*patterns), **settings}


def _labels(*patterns: str, of: str | None = None, **settings: Any) -> dict[str, Any]:
    named = {} if of is None else {"labels_of": of}
    return {"kind": "labels", **named, "match": _files(*patterns), **settings}


LAYOUTS: dict[str, Layout] = {
    "bids": Layout(
        "BIDS: the subject is `sub-<label>`; an image goes to the collection of its suffix (`t1w`, `bold`), "
        "`_dseg`, `_seg`, `_mask`, `_msk` and `_label` are labels.",
        r"(?P<subject>sub-[A-Za-z0-9+]+)",
        {name: _labels(f"*_{name}.*") for name in ("dseg", "mask", "seg", "msk", "label")},
        rest_by_modality=True,
    ),
    "nnunet": Layout(
        "nnU-Net raw: `imagesTr/CASE_0000.nii.gz` is channel 0 of CASE, `labelsTr/CASE.nii.gz` its labels; a "
        "collection for each channel.",
        rf"(?:^|/)(?:(?P<image>images)|labels)T[rs]/(?P<subject>[^/]+?)(?(image)_\d{{4}}){_ENDING}",
        {
            **{
                f"channel_{channel}": _images(f"imagesTr/*_{channel}.*", f"imagesTs/*_{channel}.*")
                for channel in _CHANNELS
            },
            "labels": _labels("labelsTr/*", "labelsTs/*", of="channel_0000"),
        },
    ),
    "decathlon": Layout(
        "Medical Segmentation Decathlon: `imagesTr/CASE.nii.gz` with all channels in one file, "
        "`labelsTr/CASE.nii.gz` its labels.",
        rf"(?:^|/)(?:images|labels)T[rs]/(?P<subject>[^/]+?){_ENDING}",
        {
            "image": _images("imagesTr/*", "imagesTs/*", fourth_axis={"name": "channel"}),
            "labels": _labels("labelsTr/*", "labelsTs/*", of="image"),
        },
    ),
    "totalsegmentator": Layout(
        "TotalSegmentator: `s0001/ct.nii.gz` (or `mri.nii.gz`) and `s0001/segmentations/*.nii.gz`, a mask "
        "for each structure; obs names the structure in `segments`.",
        r"(?:^|/)(?P<subject>s\d{4,})/",
        {
            "segmentations": _labels("segmentations/*", segment_name="file_name"),
            "ct": _images("ct.nii*"),
            "mri": _images("mri.nii*"),
        },
        subjects={"table": "meta.csv", "id_column": "image_id"},
    ),
    "brats": Layout(
        "BraTS of all years: `BraTS2021_00000_flair.nii.gz`, `BraTS-GLI-00005-100-t2f.nii.gz`; examinations "
        "of one patient (the second number since 2023) are one subject.",
        # in BraTS 2020 the labels of one case kept another name: BraTS20_Training_355/W39_1998.09.19_Segm.nii
        r"(?:^|/)(?P<subject>BraTS-[A-Za-z-]+-\d+(?=-\d+[-_][^/]*$)|"
        r"(?!BraTS-)(?:[^/]+?(?=_(?:t1|t1ce|t2|flair|seg)\.nii)|[^/]+(?=/[^/]*_Segm\.nii)))",
        {
            "t1": _images("*_t1.nii*", "*-t1n.nii*"),
            "t1c": _images("*_t1ce.nii*", "*[-_]t1c.nii*"),
            "t2": _images("*_t2.nii*", "*-t2w.nii*"),
            "flair": _images("*_flair.nii*", "*-t2f.nii*"),
            "labels": _labels("*[-_]seg.nii*", "*_Segm.nii*", "*_gtv.nii*", of="t1c"),
        },
    ),
    "flat": Layout(
        "One image of each subject, all in one folder, or images and labels in a folder each: the file's "
        "name is the subject, without words like `image`, `volume`, `seg`, `label`, `mask`.",
        rf"^(?i:(?:{_IMAGE}|{_LABEL})(?:[-_. ]|(?=\d)))?(?P<subject>.+?)"
        rf"(?i:(?:[-_. ]|(?<=\d))(?:{_IMAGE}|{_LABEL}))?{_ENDING}",
        {
            "labels": {"kind": "labels", "labels_of": "image", "match": _NAMED_LABELS},
            "image": _images("*"),
        },
    ),
    "folders": Layout(
        "A folder for each subject, with any names in it: `patient1/t1.nii.gz`, `patient1/seg.nii.gz`.",
        r"^(?P<subject>[^/]+)/",
        {
            "labels": {"kind": "labels", "match": _NAMED_LABELS},
            "image": _images("*"),
        },
    ),
}  # fmt: skip
"""The layouts by name."""


def with_layout(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a dataset.yaml with those of its layout where the file says nothing itself.

    Collections of the file come before those of the layout, so that they may take some of the files; one
    that the layout has too gets the layout's settings for what the file leaves out.
    """
    layout = LAYOUTS.get(content.get("layout") or "")
    own = content.get("collections") or {}
    subjects = content.get("subjects") or {}
    if layout is None or not isinstance(own, Mapping) or not isinstance(subjects, Mapping):
        return dict(content)  # what is wrong with it, validation says
    collections = {
        name: {**layout.collections.get(name, {}), **settings} if isinstance(settings, Mapping) else settings
        for name, settings in own.items()
    }
    collections |= {name: dict(s) for name, s in layout.collections.items() if name not in own}
    return {
        **content,
        "collections": collections,
        "subjects": {"file_name": layout.file_name, **layout.subjects, **subjects},
    }
