"""Subjects that look wrong: one name for several people, or several names for one.

A NIfTI file says who it is of by its name alone, and `subjects.file_name` says where in the name. Where that
does not fit, nothing fails: every volume is taken in, under a wrong subject. So what the names have in common
is looked at, and a pattern that fits them is looked for and tried before it is told of.

Names that differ by a number may be cases or visits, so this is a warning and never a refusal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from radiobject_assets.dataset.layouts import LAYOUTS
from radiobject_assets.dataset.subject_section import SubjectsConfig
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.nifti.bids import parse
from radiobject_assets.ingest.dataset_release import subject_in_file_name
from radiobject_assets.ingest.naming.cases_kept import keeps_cases
from radiobject_assets.ingest.naming.named_files import (
    NamedFile,
    has_number,
    is_generic,
    named_files,
    tells_no_one,
)

Kind = Literal["merged", "nameless", "divided", "unnamed"]

# So many images of one subject whose names differ by a number are cases, whatever the subject is called.
_MORE_THAN_VISITS = 20
_SHOWN = 3

_WORDS = (
    r"(?i:t1w?|t1ce|t1n|t1c|t1gd|t2w?|t2f|flair|pdw?|dwi|adc|swi|cta?|pet|mri?|"
    r"seg|segmentation|mask|labels?|gt)"
)
_VISIT = r"(?i:ses|session|visit|v|scan|run|tp|day|week|month|m|fu)[-_]?\d+"
_NAME_WITHOUT_WORDS = rf"^(?P<subject>.+?)(?:[-_](?:{_WORDS}|{_VISIT}))*\.(?:nii|nrrd|mha|mgz)"
_WHOLE_NAME = r"^(?P<subject>.+?)\.(?:nii|nrrd|mha|mgz)"
# Images with nnU-Net's number of a channel, and labels without it, in folders of any such name.
_CHANNELS_AND_LABELS = (
    r"(?:^|/)(?:(?P<image>(?i:images?|imgs?)[^/]*)|[^/]+)/(?P<subject>[^/]+?)(?(image)_\d{4})"
    r"\.(?:nii|nrrd|mha|mgz)"
)
# One image and labels of each case, which have nothing but its number in common.
_LAST_NUMBER = r"^\D*(?P<subject>\d+)\.(?:nii|nrrd|mha|mgz)"
_LAYOUTS = ("nnunet", "decathlon", "totalsegmentator")
_FOLDERS = (
    r"^(?P<subject>[^/]+)/",
    r"^[^/]+/(?P<subject>[^/]+)/",
    r"^[^/]+/[^/]+/(?P<subject>[^/]+)/",
    r"(?P<subject>[^/]+)/[^/]+$",
)

_MEANING: Mapping[Kind, str] = {
    "merged": "Images of several people are then one subject: a split can't divide them, and labels may go "
    "with another's image.",
    "nameless": "Another person's image in a file called so would be taken for the same subject's.",
    "divided": "Images of one person are then several subjects: they come into training and test alike, so "
    "that test results look better than they are, and labels don't find their image.",
    "unnamed": "Each such file is then a subject of its own: images of one person come into training and "
    "test alike, and labels don't find their image.",
}


@dataclass(frozen=True)
class SubjectDoubt:
    """Subjects of one run that look wrong, in one way.

    subjects, files
        Examples; empty where names must not be shown.
    n_subjects, n_files
        How many there are in all.
    file_name, layout
        A pattern for `subjects.file_name` under which nothing looks wrong, and the layout that has it; None
        where none was found.
    n_fitting
        How many subjects all files of the run have with it.
    """

    kind: Kind
    what: str
    n_subjects: int
    n_files: int
    subjects: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    file_name: str | None = None
    layout: str | None = None
    n_fitting: int = 0

    @property
    def text(self) -> str:
        """The warning, for a person."""
        return f"{self.told} {self.mend}"

    @property
    def told(self) -> str:
        """What looks wrong, and what it does."""
        called = ", ".join(f'"{name}"' for name in self.subjects)
        called += ", ..." if len(self.subjects) < self.n_subjects else ""
        shown = ", ".join(self.files) + (", ..." if len(self.files) < self.n_files else "")
        names = f": {called} ({shown})" if self.files else ""
        return f"{self.what}{names}. {_MEANING[self.kind]}"

    @property
    def mend(self) -> str:
        """What a person can do."""
        if self.file_name is None:
            mend = (
                "None of the patterns that were tried makes one subject of each case with its labels. Set "
                "`subjects.file_name` in dataset.yaml to a regular expression that finds the subject in a "
                "file's name or path, or give each subject a folder of its own"
            )
        else:
            layout = "" if self.layout is None else f"`layout: {self.layout}`, or "
            subjects = f"{self.n_fitting} subject{'s' * (self.n_fitting != 1)}"
            mend = (
                f"These files make {subjects} with {layout}`subjects.file_name` in dataset.yaml: "
                f"`subjects: {{file_name: '{self.file_name}'}}`"
            )
        one = " If they are of one person, there is nothing to do." if self.kind == "merged" else ""
        again = "Then ingest into a new store: this one keeps what it has under the wrong subject"
        return f"{mend}. {again}.{one}"

    @property
    def public(self) -> SubjectDoubt:
        """Without the names of subjects and files, which may be a patient's."""
        return replace(self, subjects=(), files=())

    def to_json(self) -> dict[str, Any]:
        """The entry in `ingest --json`, under `warnings`."""
        return {
            "kind": f"subjects_{self.kind}",
            "text": self.text,
            "subjects": list(self.subjects),
            "n_subjects": self.n_subjects,
            "n_files": self.n_files,
            "file_name": self.file_name,
            "layout": self.layout,
        }


def doubtful_subjects(names: Iterable[str], subjects: SubjectsConfig) -> tuple[SubjectDoubt, ...]:
    """What looks wrong of the subjects that NIfTI files get, with a pattern that fits where one is found.

    Parameters
    ----------
    names
        Paths of the files below the folder that was handed in (`NiftiFile.name`). Names as BIDS has them
        (`sub-<label>_...`) say whom they are of and are left out.
    """
    files = named_files(path_text(name) for name in names if not _is_bids(name))
    found = _doubts(files, {file.path: subject_in_file_name(file.path, subjects) for file in files})
    if not found:
        return ()
    fitting = _fitting(files, subjects)
    if fitting is not None:
        pattern, layout, n_fitting = fitting
        found = [replace(d, file_name=pattern, layout=layout, n_fitting=n_fitting) for d in found]
    if subjects.key == "pseudonym":
        found = [doubt.public for doubt in found]
    return tuple(found)


def _is_bids(name: str) -> bool:
    parsed = parse(path_text(name).rpartition("/")[2])
    return parsed is not None and "sub" in dict(parsed.entities)


def _fitting(files: Sequence[NamedFile], subjects: SubjectsConfig) -> tuple[str, str | None, int] | None:
    """The first pattern that finds a subject in every name, none of which looks wrong."""
    tried: list[tuple[str, str | None]] = [(LAYOUTS[name].file_name, name) for name in _LAYOUTS]
    if all("brats" in file.path.lower() for file in files):
        tried.append((LAYOUTS["brats"].file_name, "brats"))
    tried += [(_WHOLE_NAME, None), (LAYOUTS["flat"].file_name, "flat"), (_NAME_WITHOUT_WORDS, None)]
    tried += [(pattern, None) for pattern in (*_FOLDERS, _CHANNELS_AND_LABELS)]
    if len({(file.folders, file.pattern) for file in files if not file.is_labels}) == 1:
        tried.append(
            (_LAST_NUMBER, None)
        )  # where images are called otherwise, one number may be of two cases
    for pattern, layout in tried:
        settings = subjects.model_copy(update={"file_name": pattern})
        ids = {file.path: subject_in_file_name(file.path, settings) for file in files}
        known = layout is not None and layout != "flat"  # its examinations are of one patient
        if all(ids.values()) and (known or keeps_cases(files, ids)) and not _doubts(files, ids):
            return pattern, layout, len(set(ids.values()))
    return None


def _doubts(files: Sequence[NamedFile], subject_of: Mapping[str, str]) -> list[SubjectDoubt]:
    members: dict[str, list[NamedFile]] = defaultdict(list)
    unnamed: list[NamedFile] = []
    for file in files:
        subject = subject_of[file.path]
        (members[subject] if subject else unnamed).append(file)
    found = [_merged(members), _divided(members)]
    if unnamed:
        what = f"`subjects.file_name` finds no subject in {_counted(len(unnamed), 'file name')}"
        found.append(SubjectDoubt("unnamed", what, 0, len(unnamed), (), _some(unnamed)))
    return [doubt for doubt in found if doubt is not None]


def _merged(members: Mapping[str, Sequence[NamedFile]]) -> SubjectDoubt | None:
    doubtful = {
        subject: files for subject, files in members.items() if _is_several(subject, files, len(members))
    }
    if not doubtful:
        return None
    subjects = tuple(doubtful)
    files = [file for group in doubtful.values() for file in group]
    kind: Kind = "merged"
    what = f"{len(files)} files with different names or folders became {_counted(len(subjects), 'subject')}"
    if all(len({file.examination for file in group}) == 1 for group in doubtful.values()):
        kind = "nameless"
        what = f"{_counted(len(files), 'file name')} without a subject, but with what the image shows"
    return SubjectDoubt(kind, what, len(subjects), len(files), subjects[:_SHOWN], _some(files))


def _is_several(subject: str, files: Sequence[NamedFile], n_subjects: int) -> bool:
    """Whether one subject is probably several people."""
    numbers: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    alike = Counter(file.pattern for file in files)
    for file in files:
        numbers[file.pattern].add(file.numbers)
    cases = max(map(len, numbers.values()))
    many = max(alike.values()) >= _MORE_THAN_VISITS
    places: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    own_folder = all(subject in file.path.split("/")[:-1] for file in files)
    for file in files:
        if own_folder or not file.lies_with(subject):
            places[file.name].add(file.folders)
    in_several = any(len(folders) > 1 for folders in places.values())  # one name in the folders of several
    if own_folder:
        return tells_no_one(subject) or many or (n_subjects == 1 and (cases > 2 or in_several))
    if in_several:
        return True
    if tells_no_one(subject):
        return True
    if is_generic(subject) or not has_number(subject):
        return cases > 1
    return cases >= _MORE_THAN_VISITS or (n_subjects == 1 and cases > 2)


def _divided(members: Mapping[str, Sequence[NamedFile]]) -> SubjectDoubt | None:
    """Files of one examination by their names, under several subjects."""
    examinations: dict[object, dict[str, NamedFile]] = defaultdict(dict)
    for subject, files in members.items():
        for file in files:
            if file.examination is not None:
                examinations[file.examination].setdefault(subject, file)
    divided = [group for group in examinations.values() if len(group) > 1]
    if not divided:
        return None
    subjects = sorted({subject for group in divided for subject in group})
    files = [file for group in divided for file in group.values()]
    what = (
        f"{len(files)} files that seem to be of {_counted(len(divided), 'person', 'people')} became "
        f"{len(subjects)} subjects"
    )
    return SubjectDoubt("divided", what, len(subjects), len(files), tuple(subjects[:_SHOWN]), _some(files))


def _some(files: Sequence[NamedFile]) -> tuple[str, ...]:
    return tuple(file.path for file in files[:_SHOWN])


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
