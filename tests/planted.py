"""Plants a word in every text of a data set: public and private attributes, nested ones, names, tables."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.parse
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

# What the standard writes in ASCII alone (PS3.5 6.1.2.2); a word of another script can't be there.
ASCII_VR = frozenset({"AE", "CS", "UR"})
ASCII_WORD = "ZZPLANTEDZZ"
# A surname that is like no word, in several scripts; and the encodings in which it could be written down.
SCRIPTS = ("Zzýkmüllërß", "Ыхщкузнецова", "龘山田龘太郎", "غظمحمدثخ", "Ξψωπαππάς", "ѪגולדברגѪ", ASCII_WORD)

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
        text = word(keyword)
        dataset[tag] = pydicom.DataElement(
            tag, vr, text if text.isascii() or vr not in ASCII_VR else ASCII_WORD
        )
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


def plant_scripts(folder: Path, patient_id: str) -> None:
    """Plant a word of another script in each text of every DICOM file, with names in three groups.

    The file's own meta information, its preamble, and a UID that spells a name as well.
    """
    count = itertools.count()

    def word(keyword: str) -> str:
        return SCRIPTS[next(count) % len(SCRIPTS)]

    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.read_bytes()[128:132] != b"DICM":
            continue
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        plant(dataset, word)
        dataset.PatientName = "=".join(SCRIPTS[:3])
        dataset.PatientID = patient_id
        dataset.ImageComments = "\r\n".join(SCRIPTS * 20)
        dataset.add_new(0x00420011, "OB", SCRIPTS[0].encode("utf-16-le").ljust(64, b"\0"))  # a document
        dataset.file_meta.SourceApplicationEntityTitle = ASCII_WORD
        dataset.file_meta.SendingApplicationEntityTitle = ASCII_WORD
        dataset.file_meta.ImplementationVersionName = ASCII_WORD
        dataset.file_meta.PrivateInformationCreatorUID = SPELLED_UID
        dataset.file_meta.PrivateInformation = ASCII_WORD.encode().ljust(12, b"\0")
        dataset.preamble = ASCII_WORD.encode().ljust(128, b"\0")
        dataset.IrradiationEventUID = dataset.DeviceUID = SPELLED_UID
        dataset.save_as(path)


SPELLED_UID = "1.2.826.90.90.80.76.65.78.84.69.68"
"""ZZPLANTED, letter by letter."""


def written(word: str) -> set[bytes]:
    """A word as it could be found in a file: in encodings of text, in URIs, in JSON, and in base64."""
    found = {word.encode(e, "ignore") for e in ("utf-8", "utf-16-le", "utf-16-be", "latin-1", "cp1251")}
    found |= {urllib.parse.quote(word).encode(), json.dumps(word)[1:-1].encode()}
    for before in range(3):  # the letters in the middle are the same wherever the word begins
        coded = base64.b64encode(b" " * before + word.encode())
        found.add(coded[4 : len(coded) - 4])
    return {text for text in found if len(text) >= 8}


def said_complete(delivery: Path) -> None:
    """Say anew that a folder or an archive is complete: a marker speaks for what was there when it came."""
    marker = delivery / "_COMPLETE" if delivery.is_dir() else delivery.with_name(f"{delivery.name}_COMPLETE")
    marker.unlink(missing_ok=True)
    marker.touch()
