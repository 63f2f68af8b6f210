"""Kinds of findings about a folder of images as it is, before anything of it is taken in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Kind, Mend, Severity
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason

_ERROR, _WARN = Severity.ERROR, Severity.WARN


def _mend(action: str, *, is_safe: bool = True) -> Mend:
    return Mend(action, is_safe)


def _refused(reason: Reason) -> Kind:
    told = EXPLANATIONS[reason]
    return Kind(
        f"refused_{reason}",
        _ERROR,
        f"would be refused ({reason})",
        f"{told.meaning} It would not be in the data set, and what is missing is seldom missing at random.",
        _mend(told.action.replace("{", "{{").replace("}", "}}")),
    )


REFUSED: Mapping[Reason, Kind] = {reason: _refused(reason) for reason in Reason}
"""One kind for each reason of `imaging.reasons`."""

# -- labels and their image -----------------------------------------------------------------------------

_WRONG_PLACE = "Training would learn from labels at the wrong place, or fail at the first batch."
_RESAVE = (
    "Save the labels again on their image's grid, with nearest-neighbour interpolation where they have to be "
    "resampled; look at one overlaid before you go on."
)
LABELS_SHAPE = Kind(
    "labels_shape", _ERROR, "labels have another shape than their image", _WRONG_PLACE, _mend(_RESAVE)
)
LABELS_PLACE = Kind(
    "labels_place", _ERROR, "labels lie elsewhere than their image", _WRONG_PLACE, _mend(_RESAVE)
)
LABELS_TURNED = Kind(
    "labels_turned",
    _WARN,
    "labels are stored in another order or direction of axes than their image",
    "By their affines both lie on one another and `ingest` turns them; code that reads the arrays alone "
    "would mirror them.",
    _mend("Nothing for `ingest`. For other tools save the labels with the axes of their image."),
)
LABELS_WITHOUT_IMAGE = Kind(
    "labels_without_image",
    _ERROR,
    "labels without an image",
    "They can't be trained on, and the image may have been lost on the way.",
    _mend("Find the image, or the name by which it was to be found; else take the labels out."),
)
IMAGE_WITHOUT_LABELS = Kind(
    "image_without_labels",
    _WARN,
    "a training image without labels",
    "Tools that read this layout stop at it; others take it for an image without any lesion.",
    _mend("Supply the labels, or move the image out of the training folder."),
)
LABEL_VALUES_DIFFER = Kind(
    "label_values_differ",
    _ERROR,
    "label values that are not those of the other cases",
    "One number would mean two things, or one thing would have two numbers.",
    _mend("Look at the labels; if they were drawn with other numbers, map them to those of the others."),
)
LABELS_ALL_BACKGROUND = Kind(
    "labels_all_background",
    _WARN,
    "labels without anything labelled",
    "A case that nobody has drawn on teaches that there is nothing.",
    _mend("Look at the image: if there is nothing to label, it is right; else have it drawn."),
)
CHANNELS_APART = Kind(
    "channels_apart",
    _ERROR,
    "channels of one case that do not lie on one grid",
    "Stacked as channels, their voxels would be of different places.",
    _mend("Resample the channels of the case to one of them (or register them first)."),
)
CHANNEL_MISSING = Kind(
    "channel_missing",
    _ERROR,
    "a case that lacks a channel which the others have",
    "Tools that read this layout stop at it.",
    _mend("Supply the channel, or take the case out."),
)

# -- orientation and values -----------------------------------------------------------------------------

ORIENTATION_DIFFERS = Kind(
    "orientation_differs",
    _WARN,
    "stored in another order or direction of axes than the rest of its cohort",
    "Where the affine is read (as `ingest` does) this is no fault; code that reads arrays alone would see it "
    "mirrored or lying.",
    _mend("Look at it beside another case. If it stands right there, its affine is right."),
)
CONTENT_TURNED = Kind(
    "content_turned",
    _ERROR,
    "its voxels look mirrored or swapped against the rest of its cohort",
    "The affine is wrong, or the voxels were turned without it: left and right, or front and back, are not "
    "where the header says.",
    _mend(
        "Compare it with the original images (a heart or liver on the wrong side may also be anatomy); "
        "convert them again."
    ),
)
IMAGE_NOT_FINITE = replace(
    kinds.NOT_FINITE,
    code="image_not_finite",
    mend=_mend("Look at the image; convert it from its originals again, or take it out."),
)
IMAGE_CONSTANT = replace(
    kinds.CONSTANT,
    code="image_constant",
    mend=_mend("Look at the image; transfer or convert it again, or take it out."),
)

# -- copies ---------------------------------------------------------------------------------------------

_LEAK = "What was seen in training is tested on: results look better than they are."
IMAGE_IN_TWO_SPLITS = Kind(
    "image_in_two_splits",
    _ERROR,
    "the same image in two splits",
    _LEAK,
    _mend("Take it out of one of the splits: for honest results out of training.", is_safe=False),
)
SUBJECT_IN_TWO_SPLITS = Kind(
    "folder_subject_in_two_splits",
    _ERROR,
    "one subject in two splits",
    _LEAK,
    _mend("Put all images of the subject into one split; if they are two people, rename one.", is_safe=False),
)
IMAGE_OF_TWO_SUBJECTS = Kind(
    "image_of_two_subjects",
    _ERROR,
    "the same image under two subjects",
    "One person counts as two and may come into training and test; or one of them has another's images.",
    _mend("Find out whose image it is, and take the other copy out.", is_safe=False),
)
IMAGE_AGAIN = Kind(
    "image_again",
    _WARN,
    "the same image twice under one subject",
    "It counts twice; as two channels or visits it says that nothing differs between them.",
    _mend("Keep one of them; of channels or visits find the file that was meant.", is_safe=False),
)
LABELS_OF_TWO_SUBJECTS = Kind(
    "labels_of_two_subjects",
    _ERROR,
    "the same labels under two subjects whose images differ",
    "One of the images has another's labels.",
    _mend("Find out whose labels they are, and supply those of the other.", is_safe=False),
)
FILES_TWICE = Kind(
    "files_twice",
    _WARN,
    "a series with files that are there twice",
    "`ingest` takes one of each; other tools may build a volume with every slice twice.",
    _mend("Nothing for `ingest`. To tidy up remove the copies.", is_safe=False),
)

# -- who it is of ---------------------------------------------------------------------------------------

_PERSON = "Who gets the folder learns who was examined; a name or date in it may be against the law."
HEADER_IDENTIFIERS = Kind(
    "header_identifiers",
    _WARN,
    "DICOM headers that say who was examined",
    _PERSON,
    _mend(
        "De-identify before the files leave the hospital. `ingest` keeps none of these; for ids set "
        "`subjects.key: pseudonym` in dataset.yaml."
    ),
)
NAME_IDENTIFIERS = Kind(
    "name_identifiers",
    _WARN,
    "a name of a file or folder that seems to say who was examined",
    _PERSON,
    _mend("Rename it; nothing but the name is read from it."),
)
TEXT_IDENTIFIERS = Kind(
    "text_identifiers",
    _WARN,
    "texts in or beside an image that seem to say who was examined",
    f"{_PERSON} NIfTI files are thought to be free of it, and seldom looked at.",
    _mend("Clear the field (`nibabel`, `fslmodhd`), or take the key out of the JSON file."),
)
