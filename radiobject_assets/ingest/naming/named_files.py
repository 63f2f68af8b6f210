"""What names of NIfTI files have in common: the words that tell cases, visits, contrasts and kinds apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from radiobject_assets.ingest.naming.file_place import CONTRASTS
from radiobject_assets.ingest.naming.label_names import LABEL_WORDS, named_labels

_LABELS = LABEL_WORDS | frozenset(
    """annotation annotations aparc lesion lesions contour contours gtv ctv ptv truth
    manual""".split()  # noqa: SIM905 - no better one a line
)
_FILES = frozenset(
    """image imaging images img imgs volume volumes vol vols file files data dataset scan scans case cases
    nifti nii raw source sources output out orig original input series study exam sample samples subject
    subjects patient patients test train tr ts val validation training testing imagestr imagests imagesval
    labelstr labelsts labelsval anat func perf fmap derivatives derived processed preprocessed
    """.split()  # noqa: SIM905
)
_MODALITIES = frozenset({"mr", "mri", "ct", "cta", "cbct", "pet", "pt", "us", "spect", "nm", "bold", "fmri"})
_ORGANS = frozenset(
    """brain head neck chest thorax abdomen pelvis body heart cardiac lung lungs liver kidney kidneys spleen
    pancreas prostate colon hippocampus hepaticvessel vessel vessels stomach bladder bowel duodenum esophagus
    gallbladder aorta spine vertebra vertebrae rib ribs sacrum femur hip humerus clavicula scapula skull
    sternum breast uterus ovary thyroid adrenal trachea atrium ventricle la rv lv tumor tumour nodule knee
    muscle brats msd kits lits btcv acdc amos flare
    """.split()  # noqa: SIM905
)
_GENERIC = _LABELS | _FILES | _MODALITIES | _ORGANS | CONTRASTS
_KINDS = _LABELS | _FILES | _MODALITIES | CONTRASTS
# A number after such a word counts examinations of one person, or parts of one examination.
_VISITS = frozenset(
    """ses session v visit scan scans run r tp t timepoint time echo e acq acquisition day d week w month m mo
    y yr year bl baseline fu followup followups rep repeat pass phase ph part bval b dir te ti frame pre post
    batch wave delivery arrival set fold
    """.split()  # noqa: SIM905
)
# Words of a name that count the people themselves.
_PEOPLE = frozenset("case cases sample samples subject subjects patient patients".split())  # noqa: SIM905
_DATE = re.compile(r"(19|20)\d{2}(0[1-9]|1[0-2])([0-2]\d|3[01])|(19|20)\d{2}")
_SEPARATORS = re.compile(r"[\W_]+")
_ENDING = re.compile(r"\.(nii|hdr|img|nrrd|nhdr|mha|mhd|mgz|mgh)(\.gz)?$", re.IGNORECASE)
_CHANNEL = re.compile(r"(.*/)?images(T[rs]|Val)/(.+)_(\d{4})")
_MOST_CHANNELS = 16
_PARTS = re.compile(r"[^\W\d_]+|\d+")


def stem_of(path: str) -> str:
    """A file's name without its folders and its ending."""
    return _ENDING.sub("", path.rpartition("/")[2])


def named_files(paths: Iterable[str]) -> list[NamedFile]:
    """The files of one run, in order; what may be a channel's number is told from a case's by the others.

    A channel's image has a first one (`_0000`) beside it, and no labels are called like it.
    """
    stems = {_ENDING.sub("", path): path for path in sorted(set(paths))}
    channels: dict[str, list[str]] = defaultdict(list)
    for stem in stems:
        if found := _CHANNEL.fullmatch(stem):
            channels[stem[: -len(found[4])]].append(stem)
    labelled = {stem.rpartition("/")[2] for stem in stems if "labelsT" in stem}
    numbered = {
        stem
        for case, group in channels.items()
        if f"{case}0000" in stems and len(group) <= _MOST_CHANNELS
        for stem in group
        if stem.rpartition("/")[2] not in labelled
    }
    return [NamedFile(path, stem in numbered) for stem, path in stems.items()]


def is_generic(name: str) -> bool:
    """Whether a name says what an image is of or what kind of file it is, whatever number it has."""
    letters = [part for part in _PARTS.findall(name.lower()) if not part.isdigit()]
    return bool(letters) and ("".join(letters) in _GENERIC or all(part in _GENERIC for part in letters))


def tells_no_one(name: str) -> bool:
    """Whether a name can't be a subject's: a modality, an organ, a contrast (`T1`), a kind of file."""
    return name.lower() in _GENERIC or (is_generic(name) and not has_number(name))


def has_number(name: str) -> bool:
    """Whether a name has a digit, as ids of people mostly do."""
    return any(character.isdigit() for character in name)


@dataclass(frozen=True)
class NamedFile:
    """The path of a NIfTI file below the folder that was handed in, with forward slashes.

    channel
        Whether the last four digits of its name are nnU-Net's number of a channel.
    """

    path: str
    channel: bool = False

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.path.rpartition("/")[2]

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Words of the name, without those for contrasts and labels; numbers of visits and dates are `*`.

        A single letter at the start is no word for a visit: `m001`, `T01` and `D1` are somebody's ids.
        """
        kept: list[str] = []
        last = ""
        words = [word for word in _SEPARATORS.split(stem_of(self.path).lower()) if word]
        for word in words[:-1] if self.channel else words:
            if word in CONTRASTS:
                continue
            for part in _PARTS.findall(word):
                if part in _LABELS:
                    continue
                counts = part.isdigit() and (last in _VISITS or _DATE.fullmatch(part) is not None)
                last = "" if not kept and len(part) == 1 else part
                kept.append("*" if counts else part)
        return tuple(kept)

    @cached_property
    def is_labels(self) -> bool:
        """Whether it has the name of labels."""
        return named_labels(self.path)

    @property
    def contrasts(self) -> tuple[str, ...]:
        """The words of the name for what an image shows."""
        words = _SEPARATORS.split(stem_of(self.path).lower())
        shown = tuple(word for word in words if word in CONTRASTS or word in _MODALITIES)
        return (*shown, words[-1]) if self.channel else shown

    @property
    def only_counts(self) -> bool:
        """Whether the name has no more than a word for a file or a visit, and a number: `scan1`, `img2`."""
        letters = [word for word in self.words if word != "*" and not word.isdigit()]
        return bool(letters) and all(w in _VISITS or (w in _FILES and w not in _PEOPLE) for w in letters)

    @property
    def pattern(self) -> tuple[str, ...]:
        """The words with `#` for every number that may count cases."""
        return tuple("#" if word.isdigit() else word for word in self.words)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers that may count cases."""
        return tuple(word for word in self.words if word.isdigit())

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """The folders that tell whom a file is of: not those for kinds of files, nor for visits."""
        return tuple(part for part in PurePosixPath(self.path).parts[:-1] if not _is_of_no_one(part))

    def lies_with(self, subject: str) -> bool:
        """Whether a folder above it is called after a subject."""
        return any(
            subject in _SEPARATORS.split(folder) or (len(subject) > 2 and subject in folder)
            for folder in self.folders
        )

    @property
    def examination(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """What is the same of all files of one examination or person; None where the name tells nothing."""
        left = tuple(word for word in self.words if word not in _FILES and word not in _MODALITIES)
        telling = [word for word in left if word != "*" and word not in _VISITS]
        return (self.folders, tuple(w for w in left if w != "*")) if telling or self.folders else None


def _is_of_no_one(folder: str) -> bool:
    parts = _PARTS.findall(folder.lower())
    letters = [part for part in parts if not part.isdigit()]
    if not letters:
        return bool(parts) and _DATE.fullmatch(parts[0]) is not None
    if len(letters) == len(parts):
        return all(part in _KINDS or part in _VISITS for part in letters)
    return letters[-1] in _VISITS and len(letters) == 1
