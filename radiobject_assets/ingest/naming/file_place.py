"""What the folder and the name of a NIfTI file say of the acquisition that it is of.

Outside BIDS nothing but these tells that `p1_t1`, `p1_t2` and `p1_seg` are one examination, and `p1_v1_t1`
and `p1_v2_t1` two.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.files.volume_names import without_ending

CONTRASTS = frozenset(
    """t1 t1w t1n t1c t1ce t1gd t1map t2 t2w t2f t2s t2star t2flair t2map flair pd pdw dwi adc fa swi mra
    inplanet1 inplanet2 ct cta pet""".split()  # noqa: SIM905 - no better one a line
)
"""Words for what an image shows, in small letters: images whose names differ in these alone are of one
examination. No word that may stand for a time (`pre`, `post`) is among them."""

# nnU-Net: imagesTr/case_0000.nii.gz, case_0001.nii.gz are the channels of labelsTr/case.nii.gz.
_CHANNEL_FOLDER = re.compile(r"images(Tr|Ts|Val)")
_CHANNEL = re.compile(r"\d{4}")
_DATE_FOLDER = re.compile(r"(?:^|/)((?:19|20)\d\d)([-_]?)([01]\d)\2([0-3]\d)(?!\d)")


@dataclass(frozen=True)
class FilePlace:
    """A file's folder, and the words of its name: those for what it shows, and the others in their order."""

    folder: str
    words: tuple[str, ...]
    contrasts: tuple[str, ...]

    @property
    def date(self) -> str:
        """Of the examination, where a folder is named after one (`2020-01-31`, `20200131_MR`); else empty."""
        found = _DATE_FOLDER.findall(self.folder)
        return "".join((found[-1][0], *found[-1][2:])) if found else ""

    @classmethod
    def of(cls, path: Path) -> FilePlace:
        """The place of a NIfTI file."""
        folder = PurePath(path_text(path.parent))
        words = [w.lower() for w in re.split(r"[\W_]+", without_ending(path_text(path.name))) if w]
        contrasts = [word for word in words if word in CONTRASTS]
        if _CHANNEL_FOLDER.fullmatch(folder.name) and len(words) > 1 and _CHANNEL.fullmatch(words[-1]):
            contrasts.append(words.pop())
        return cls(str(folder), tuple(w for w in words if w not in CONTRASTS), tuple(contrasts))


def segment_of(path: Path) -> str:
    """The obs column `segments` of a mask of one structure that its file is named after."""
    return json.dumps([{"value": 1, "label": without_ending(path_text(path.name))}])


def those_of_labels(labels: FilePlace, images: Sequence[FilePlace]) -> list[int]:
    """Which of several images labels may be drawn on, in their order.

    Those whose name is in the labels' name, but for words of contrast; of them those in the labels' folder;
    of them those of a contrast that the labels' name has: each where there are any. What is left may be of
    several acquisitions (`one_acquisition`).
    """
    left = list(range(len(images)))
    said, named = Counter(labels.words), frozenset(labels.contrasts)
    left = [i for i in left if Counter(images[i].words) <= said] or left
    left = [i for i in left if images[i].folder == labels.folder] or left
    return [i for i in left if not named.isdisjoint(images[i].contrasts)] or left


def one_acquisition(images: Sequence[FilePlace]) -> bool:
    """Whether images lie in one folder, with names that differ in words of contrast alone."""
    return len({(image.folder, image.words) for image in images}) == 1 and len(
        {image.contrasts for image in images}
    ) == len(images)
