"""Images and labels that lie in two folders under matching names, as many public data sets come."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from radiobject_assets.errors import AlignmentError, IngestError
from radiobject_assets.imaging.files.volume_names import without_ending

_NNUNET_CHANNEL = re.compile(r"_\d{4}$")


class ImageFormat(StrEnum):
    """File formats that images are read from."""

    NIFTI = "nifti"
    DICOM = "dicom"


@dataclass(frozen=True)
class NiftiSource:
    """A NIfTI image of a subject, and the label image drawn on it, if there is one."""

    image_path: Path
    subject_id: str
    label_path: Path | None = None

    @property
    def has_label(self) -> bool:
        """Whether there is a label image."""
        return self.label_path is not None


def nifti_stem(path: Path) -> str:
    """File name without `.nii`, `.nii.gz`, `.hdr` or `.img` (or `.mgz`, `.nrrd`, `.mha`...)."""
    return without_ending(path.name)


def discover_nifti_pairs(
    image_dir: str | Path,
    label_dir: str | Path | None = None,
    pattern: str = "*.nii.gz",
    subject_id_fn: Callable[[Path], str] | None = None,
) -> list[NiftiSource]:
    """Find NIfTI images, and the label image of each by its name.

    Parameters
    ----------
    label_dir
        A label belongs to the image of the same file name (nnU-Net's channel suffix, as in `case_0000`, is
        left out); else of the same subject id, where one label and one image have it. An image may have none.
    pattern
        File-name pattern. Where `.nii.gz` matches nothing, `.nii` is tried.
    subject_id_fn
        Subject id of a path; by default the file name without suffix.

    Returns
    -------
    list[NiftiSource]
        Sorted by image path.

    Raises
    ------
    FileNotFoundError
        A folder is absent.
    IngestError
        No image matches.
    AlignmentError
        A label fits several images, or several labels fit one image.
    """
    subject_of = subject_id_fn or nifti_stem
    images = _matching(Path(image_dir), pattern)
    if not images:
        raise IngestError(f"{image_dir}: No NIfTI files found that match {pattern!r}")
    if label_dir is None:
        return [NiftiSource(path, subject_of(path)) for path in images]
    labels = _matching(Path(label_dir), pattern)
    by_name = {nifti_stem(path): path for path in labels}
    by_subject = _grouped(labels, subject_of)
    images_of = _grouped(images, subject_of)
    sources = []
    for path in images:
        subject_id, stem = subject_of(path), nifti_stem(path)
        label = by_name.get(stem) or by_name.get(_NNUNET_CHANNEL.sub("", stem))
        if label is None and (candidates := by_subject.get(subject_id, [])):
            if len(candidates) > 1 or len(images_of[subject_id]) > 1:
                raise AlignmentError(
                    f"subject {subject_id!r} has {len(images_of[subject_id])} images and "
                    f"{len(candidates)} labels with other file names: which belong together?"
                )
            label = candidates[0]
        sources.append(NiftiSource(path, subject_id, label))
    return sources


def _matching(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    return sorted(folder.glob(pattern)) or sorted(folder.glob(pattern.removesuffix(".gz")))


def _grouped(paths: Iterable[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(key(path), []).append(path)
    return groups
