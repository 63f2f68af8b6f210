"""Plants a word in every text of a data set: public and private attributes, nested ones, names, tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

TEXT_VR = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR"})
# What the reader must understand to read the file at all; none of these can hold an identifier and be read.
STRUCTURE = frozenset(
    {
        "SpecificCharacterSet", "ImageType", "Modality", "PhotometricInterpretation", "PatientID",
        "SegmentationType", "SegmentationFractionalType", "SegmentsOverlap", "FrameType",
        "ComplexImageComponent", "ContentLabel",
    }
)  # fmt: skip
NESTED = (
    "OtherPatientIDsSequence",
    "RequestAttributesSequence",
    "ReferencedStudySequence",
    "AnatomicRegionSequence",
)

Word = Callable[[str], str]
"""The word for an attribute's keyword."""


def plant(dataset: Dataset, word: Word) -> int:
    """Put a word in every text attribute that the standard knows; returns how many."""
    planted = 0
    for number, (vr, *_) in DicomDictionary.items():
        tag = Tag(number)
        keyword = keyword_for_tag(tag)
        if vr not in TEXT_VR or tag.group <= 0x0004 or not keyword or keyword in STRUCTURE:
            continue
        dataset[tag] = pydicom.DataElement(tag, vr, word(keyword))
        planted += 1
    for keyword in NESTED:
        item, inner = Dataset(), Dataset()
        inner.PatientName = inner.TextValue = inner.CodeMeaning = word(keyword)
        item.PatientID = item.StudyDescription = item.InstitutionName = word(keyword)
        item.ReferencedPatientSequence = Sequence([inner])
        dataset[keyword] = pydicom.DataElement(Tag(keyword), "SQ", Sequence([item]))
        planted += 6
    for group in (0x0009, 0x0011, 0x0019, 0x0029, 0x0043, 0x0051, 0x2001, 0x2005):
        block = dataset.private_block(group, word("PrivateCreator")[:60], create=True)
        block.add_new(0x01, "LO", word("Private"))
        block.add_new(0x02, "UN", word("Private").encode())
        inner = Dataset()
        inner.PatientComments = word("PrivateNested")
        block.add_new(0x03, "SQ", Sequence([inner]))
        planted += 3
    for element in dataset:
        if element.VR == "SQ" and element.keyword not in NESTED and not element.tag.is_private:
            for item in element.value:
                item.add_new(0x00204000, "LT", word("ImageComments"))
                item.add_new(0x00100010, "PN", word("PatientName"))
                planted += 2
    dataset.PatientBirthDate, dataset.PatientBirthTime = "19370911", "113755"
    return planted


def plant_in_files(folder: Path, word: Word, *, patient_id: str | None = None) -> int:
    """Plant in every DICOM file below a folder; `patient_id` becomes the PatientID if given."""
    planted = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        try:
            dataset = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        planted += plant(dataset, word)
        if patient_id is not None:
            dataset.PatientID = patient_id
        dataset.save_as(path)
    return planted
