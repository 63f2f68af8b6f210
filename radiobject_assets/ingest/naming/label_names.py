"""Does a file's name say that it holds labels? One rule for the layouts that have no names of their own.

Such names are people's own (`SEG.nii.gz`, `tumor_seg_final.nii.gz`, `p1_lesionMask.nii.gz`, `lung_mask/`),
and a mask that is taken for an image is wrong without anybody being told. So a word is enough, wherever it
stands; but it must be a word: `segrap_0001` is no segmentation.
"""

from __future__ import annotations

import re

LABEL_WORDS = frozenset(
    """seg segm segs dseg aseg segmentation segmentations mask masks msk label labels labelmap gt groundtruth
    roi rois labelstr labelsts labelsval""".split()  # noqa: SIM905 - no better one a line
)
"""Words for labels, in small letters."""

# Also at the end of a longer word: `lesionmask`, `brainseg`.
_AT_THE_END = re.compile(r"(?:seg|segmentations?|masks?|labels?)$")
# `tumorSeg` and `CTMask` are two words, `SEG` is one
_IN_A_NAME = re.compile(r"[A-Z]+(?![^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]+")
_IN_A_FOLDER = re.compile(r"[^\W\d_]+")


def named_labels(name: str) -> bool:
    """Whether the name of a file, or of the folder that it lies in, has a word for labels.

    Parameters
    ----------
    name
        The file's path below the folder that was handed in, with forward slashes. A name is divided at what
        is no letter and where small letters turn into capitals, a folder's name only at what is no letter.
    """
    folders, _, file = name.rpartition("/")
    words = [word.lower() for word in _IN_A_NAME.findall(file)]
    if any(word in LABEL_WORDS or _AT_THE_END.search(word) for word in words):
        return True
    folder = folders.rpartition("/")[2]
    return any(word.lower() in LABEL_WORDS for word in _IN_A_FOLDER.findall(folder))
