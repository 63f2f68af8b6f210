"""BIDS folders: what a file's name says of its image, and the sidecars that it inherits.

A BIDS root is a folder with `dataset_description.json`, or the folder above `sub-<label>`. An image below it
gets its entities (session, run, ...), suffix and data type as attributes, and the values of every sidecar
that applies to it: a sidecar in its own folder or above whose entities the image has too, the nearest one
last. Tables, sidecars and notes of the folder are accounted for as `sidecar`.
Source: BIDS specification 1.10, "Filenames" and "The Inheritance Principle".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from radiobject_assets.imaging.files.archives import folder_of_archive
from radiobject_assets.imaging.files.volume_names import SIDECAR_SUFFIXES
from radiobject_assets.imaging.nifti.sidecars import read_sidecars
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue

if TYPE_CHECKING:
    from radiobject_assets.imaging.files.unreadable import Unreadable
    from radiobject_assets.imaging.nifti.header import NiftiFile

DESCRIPTION = "dataset_description.json"
COLUMNS: dict[str, str] = {
    "ses": "session", "task": "task", "acq": "acquisition", "ce": "contrast_label", "trc": "tracer",
    "rec": "reconstruction", "dir": "direction", "run": "run", "echo": "echo", "part": "part",
    "inv": "inversion", "desc": "description_label", "space": "space", "seg": "segmentation_label",
    "label": "label", "res": "resolution",
}  # fmt: skip
"""BIDS entity to the column of obs; the subject is obs_subject_id."""

LABEL_COLUMNS = frozenset(COLUMNS.values()) - {"run", "echo"}
"""Columns whose values are free labels (`run` and `echo` are numbers)."""

IMAGE_SUFFIXES = frozenset(
    """T1w T2w T1rho T1map T2map T2star T2starw T2starmap FLAIR FLASH PD PDw PDmap PDT2 inplaneT1 inplaneT2
    angio defacemask UNIT1 Chimap R1map R2map R2starmap S0map M0map MTRmap MTVmap MTsat MWFmap MESE MEGRE VFA
    IRT1 MP2RAGE MPM MTS MTR bold cbv sbref phase dwi ADC FA S0 trace colFA expADC asl m0scan phasediff phase1
    phase2 magnitude magnitude1 magnitude2 fieldmap epi pet dseg probseg mask boldref""".split()  # noqa: SIM905 - no better one a line
)
"""Suffixes of images that BIDS has; another may be anybody's word."""

_PAIR = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
_MODALITIES = {"anat": "MR", "func": "MR", "dwi": "MR", "fmap": "MR", "perf": "MR", "pet": "PT", "ct": "CT"}
_NOTES = frozenset({"README", "CHANGES", "LICENSE", "CITATION.cff", ".bidsignore"})
_NOTE_SUFFIXES = frozenset({".json", ".tsv", ".bval", ".bvec", ".md", ".rst", ".txt", ".gz"})


@dataclass(frozen=True)
class Name:
    """A BIDS file name: entities in order, suffix (`T1w`, `bold`), extension (`.nii.gz`)."""

    entities: tuple[tuple[str, str], ...]
    suffix: str
    extension: str

    def applies_to(self, image: Name) -> bool:
        """Whether a sidecar of this name belongs to an image of that name."""
        return self.suffix == image.suffix and set(self.entities) <= set(image.entities)


def parse(file_name: str) -> Name | None:
    """The parts of a BIDS file name; None if it is none."""
    stem, dot, extension = file_name.partition(".")
    *pairs, suffix = stem.split("_")
    found = [_PAIR.fullmatch(pair) for pair in pairs]
    if not dot or not re.fullmatch(r"[a-zA-Z0-9]+", suffix) or None in found:
        return None
    entities = tuple((match[1], match[2]) for match in found if match is not None)
    if len(dict(entities)) < len(entities):
        return None
    return Name(entities, suffix, f".{extension}")


def attributes_of_name(name: Name, datatype: str) -> dict[str, AttributeValue]:
    """What a BIDS file name and its folder say of an image: columns of obs."""
    found: dict[str, AttributeValue] = {"suffix": name.suffix}
    if datatype in _MODALITIES:
        found |= {"datatype": datatype, "modality": _MODALITIES[datatype]}
    for entity, value in name.entities:
        column = COLUMNS.get(entity)
        if column is not None:
            found[column] = int(value) if column not in LABEL_COLUMNS and value.isdigit() else value
    return found


def described(
    niftis: Sequence[NiftiFile], unreadable: Iterable[Unreadable], texts: Mapping[Path, bytes]
) -> tuple[list[NiftiFile], list[Unreadable]]:
    """Images with what BIDS says of them, and the other files with those of BIDS folders marked.

    Parameters
    ----------
    niftis
        With the attributes of their own sidecars, which come before inherited ones.
    texts
        Content of sidecars that are not on disk.
    """
    others = list(unreadable)
    roots = {item.path.parent for item in others if item.path.name == DESCRIPTION}
    names = {nifti.path: name for nifti in niftis if (name := parse(nifti.path.name)) is not None}
    roots |= {above for path, name in names.items() if (above := _above_subject(path, name)) is not None}
    if not roots:
        return list(niftis), others
    sidecars: dict[Path, list[tuple[Path, Name]]] = defaultdict(list)
    for item in others:
        sidecar = parse(item.path.name) if item.path.suffix in SIDECAR_SUFFIXES else None
        if sidecar is not None:
            sidecars[item.path.parent].append((item.path, sidecar))
    images = [
        _described(nifti, names[nifti.path], sidecars, texts, roots) if nifti.path in names else nifti
        for nifti in niftis
    ]
    return images, [_as_sidecar(item) if _belongs(item, roots) else item for item in others]


def _above_subject(path: Path, name: Name) -> Path | None:
    subject = dict(name.entities).get("sub")
    if subject is None:
        return None
    return next((parent.parent for parent in path.parents if _is_folder_of(subject, parent.name)), None)


def _is_folder_of(subject: str, folder: str) -> bool:
    return folder == f"sub-{subject}" or folder_of_archive(folder) == f"sub-{subject}"


def _root_of(path: Path, roots: set[Path]) -> Path | None:
    return next((parent for parent in path.parents if parent in roots), None)


def _described(
    nifti: NiftiFile,
    name: Name,
    sidecars: Mapping[Path, list[tuple[Path, Name]]],
    texts: Mapping[Path, bytes],
    roots: set[Path],
) -> NiftiFile:
    root = _root_of(nifti.path, roots)
    if root is None:
        return nifti
    folders = [parent for parent in nifti.path.parents if parent == root or root in parent.parents]
    inherited: dict[str, AttributeValue] = {}
    for folder in reversed(folders):
        applying = sorted(
            ((path, other) for path, other in sidecars.get(folder, ()) if other.applies_to(name)),
            key=lambda item: (len(item[1].entities), item[0]),
        )
        inherited |= read_sidecars([path for path, _ in applying], nifti.matrix, texts)
    attributes = attributes_of_name(name, nifti.path.parent.name) | inherited | nifti.attributes
    return replace(nifti, attributes=attributes)


def _belongs(item: Unreadable, roots: set[Path]) -> bool:
    if item.reason is not Reason.NOT_AN_IMAGE or _root_of(item.path, roots) is None:
        return False
    path = PurePath(item.path)
    return path.name in _NOTES or path.suffix in _NOTE_SUFFIXES


def _as_sidecar(item: Unreadable) -> Unreadable:
    return replace(item, reason=Reason.SIDECAR, detail="belongs to a BIDS folder")
