"""Does a division into subjects keep cases as they are? Asked of a pattern before a person is told of it.

What is told is copied, so it must do no harm: labels without the image that they were drawn on, and several
cases under one subject, are worse than no advice. Doubts (`doubtful_subjects`) spare what may be visits;
here such a case speaks against the pattern.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from radiobject_assets.ingest.naming.named_files import NamedFile

# So many images of one person may be counted in names that tell nothing else (`scan1`, `img2`).
_MOST_COUNTED = 4


def keeps_cases(files: Sequence[NamedFile], subject_of: Mapping[str, str]) -> bool:
    """Whether all labels have an image of their subject, and no subject has the images of several cases.

    Parameters
    ----------
    subject_of
        The subject of each file's path.
    """
    images = [file for file in files if not file.is_labels]
    imaged = {subject_of[file.path] for file in images}
    if images and any(subject_of[file.path] not in imaged for file in files if file.is_labels):
        return False
    cases: dict[tuple[str, object], set[object]] = defaultdict(set)
    counted: dict[tuple[str, object], set[object]] = defaultdict(set)
    for file in images:
        kind = (subject_of[file.path], (file.pattern, file.contrasts))
        (counted if file.only_counts else cases)[kind].add(file.numbers)
    return all(len(numbers) == 1 for numbers in cases.values()) and all(
        len(numbers) <= _MOST_COUNTED for numbers in counted.values()
    )
