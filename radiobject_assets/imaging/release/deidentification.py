"""What leaves the DICOM world: `Release.scan` is the one door between headers and everything else.

A scan holds what the headers say. Released, it holds what may be known outside: of the attributes only the
allowed ones, and with a key also no identifier, UID or date as it was. Series, tables, obs, the sources in an
array's metadata, exports and Dagster are made from a released scan and from nothing else.

With a key (from a secret that never leaves the process)
- subjects are HMAC-SHA256 of the PatientID, so the same patient is the same subject wherever the key is;
- UIDs become UIDs below 2.25 (PS3.5 B.2), the same for the same UID, so references still hold;
- of free texts (vendor, model, sequence, kernel, names of segments and regions, what dataset.yaml adds) each
  word that is not known (`known_words`) is a keyed token; channels of which one is not known are numbered;
- dates move by a number of days that depends on the subject, so intervals within a subject still hold.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import lru_cache

from radiobject_assets.imaging.axes import AXIS, AXIS_VALUES
from radiobject_assets.imaging.dicom.instance import Frame, Instance
from radiobject_assets.imaging.dicom.split_uids import counted_uid
from radiobject_assets.imaging.dicom.tags import ISSUER_COLUMN, OPTIONAL_ATTRIBUTES
from radiobject_assets.imaging.dicom.terms import free_text_columns
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.nifti.bids import IMAGE_SUFFIXES, LABEL_COLUMNS
from radiobject_assets.imaging.nifti.header import NiftiFile
from radiobject_assets.imaging.release.known_words import in_known_words, names_an_image
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.imaging.source import AttributeValue

PSEUDONYM = re.compile(r"p-[0-9a-f]{20}")
"""What a pseudonym looks like."""

DATE_COLUMNS = frozenset({"acquisition_date", "acquisition_datetime", "series_date", "study_date"})
UID_COLUMNS = frozenset({"frame_of_reference_uid"})
_MAX_SHIFT_DAYS = 3650
_OLDEST_YEARS = 90
# Well-known UIDs (SOP classes, standard frames of reference) name no study.
_STANDARD_ROOT = "1.2.840.10008."
_PLAIN_STACK = re.compile(r"[A-Za-z]?[0-9]{1,4}|[A-Za-z]")
_LOOKS_LIKE_NUMBER = re.compile(r"\d{6}")
_DATE = re.compile(r"\d{8}")
_PLAIN_CODE = re.compile(
    r"(?:SCT|SRT|DCM|FMA|RADLEX|UMLS|NCIt|99[A-Z]{1,10}|LN|UCUM):[A-Z]{0,3}-?[0-9A-F]{1,20}"
)


@dataclass(frozen=True)
class Release:
    """What of a scan may leave.

    Parameters
    ----------
    keywords
        DICOM keywords of `tags.OPTIONAL_ATTRIBUTES` that are allowed besides `tags.ATTRIBUTES`.
    key
        Secret that pseudonyms are made with; None leaves identifiers, UIDs and dates as they are.
    subject_of_file
        For pseudonyms: the subject that a NIfTI file's name tells ("" if none).
    """

    keywords: frozenset[str] = frozenset()
    key: bytes | None = field(default=None, repr=False)
    subject_of_file: Callable[[str], str] = lambda name: ""

    def scan(self, found: ScanResult) -> ScanResult:
        """The scan as it may be known outside; paths stay, since the files are read again."""
        uid = lru_cache(maxsize=None)(self.uid)
        shift = lru_cache(maxsize=None)(self._shift)
        places = {} if self.key is None else self._uid_places({i.series_uid for i in found.instances})
        return ScanResult(
            tuple(self._instance(instance, uid, shift, places) for instance in found.instances),
            tuple(self._nifti(nifti) for nifti in found.niftis),
            found.unreadable,
        )

    def subject(self, subject_id: str) -> str:
        """The id under which a subject is known outside."""
        if self.key is None:
            return subject_id
        return "p-" + self._digest("subject", unicodedata.normalize("NFC", subject_id.strip())).hex()[:20]

    def uid(self, uid: str) -> str:
        """The UID under which an instance, series, study or frame of reference is known outside."""
        if self.key is None or not uid or uid.startswith(_STANDARD_ROOT):
            return uid
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=4).int}"

    def date(self, text: str, subject_id: str) -> str:
        """A DICOM date or date-time (YYYYMMDD...) moved by its subject's days; "" where it is none.

        Parameters
        ----------
        subject_id
            The id as it is outside.
        """
        if self.key is None:
            return text
        return _moved(text, self._shift(subject_id))

    @property
    def mark(self) -> str | None:
        """What tells this key from any other without telling it; None where there is none."""
        return None if self.key is None else self._digest("mark", "").hex()[:16]

    def token(self, kind: str, text: str) -> str:
        """A digest that names `text` where it must not be shown."""
        return self._digest(kind, text).hex()[:32]

    def known_words(self, text: str) -> str:
        """A free text as it may be known outside: without a key as it is."""
        if self.key is None:
            return text
        return in_known_words(text, lambda word: f"w-{self._digest('word', word).hex()[:8]}")

    def _known_code(self, text: str) -> str:
        """A code with what it means; a code of a scheme of one's own may be anything."""
        code, _, meaning = text.partition(" ")
        if not _PLAIN_CODE.fullmatch(code):
            return self.known_words(meaning)
        return f"{code} {self.known_words(meaning)}".strip()

    def _digest(self, kind: str, text: str) -> bytes:
        data = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self.key or b"", data, hashlib.sha256).digest()

    def _shift(self, subject_id: str) -> timedelta:
        number = int.from_bytes(self._digest("days", subject_id)[:8], "big")
        return -timedelta(days=1 + number % _MAX_SHIFT_DAYS)

    def _uid_places(self, uids: Collection[str]) -> dict[str, tuple[str, int]]:
        """How series count in their UIDs, which pseudonyms no longer tell: ranks, and not the numbers."""
        counted = {uid: place for uid in uids if (place := counted_uid(uid)) is not None}
        stems: dict[str, list[int]] = {}
        for stem, number in counted.values():
            stems.setdefault(stem, []).append(number)
        ranks = {stem: {n: rank for rank, n in enumerate(sorted(own))} for stem, own in stems.items()}
        return {
            uid: (self.token("stem", stem)[:16], ranks[stem][number])
            for uid, (stem, number) in counted.items()
        }

    def _instance(
        self,
        i: Instance,
        uid: Callable[[str], str],
        shift: Callable[[str], timedelta],
        places: Mapping[str, tuple[str, int]],
    ) -> Instance:
        attributes = dict(i.attributes)
        for keyword in self.keywords & i.extras.keys():
            value = i.extras[keyword]
            attributes[OPTIONAL_ATTRIBUTES[keyword][0]] = (
                _age(str(value)) if keyword == "PatientAge" else value
            )
        frames = tuple(map(self._plain_stack, i.frames))
        if self.key is None:
            return replace(i, attributes=attributes, extras={}, frames=frames)
        said = {name: str(attributes[name]) for name in free_text_columns() & attributes.keys()}
        known = {name: self.known_words(text) for name, text in said.items()}
        patient = self.subject(i.patient_id) if i.patient_id and i.patient_id.strip() else None
        subject_id = patient or self.token("study", i.study_uid)
        days = shift(subject_id)
        # an instance that names neither itself nor its series would go by its file's name
        sop = i.sop_instance_uid if i.sop_instance_uid or i.series_uid else f"file {i.path}"
        return replace(
            i,
            patient_id=patient,
            description=str(i.extras.get("SeriesDescription", "")),  # with `*` for what names somebody
            sop_instance_uid=uid(sop),
            series_uid=uid(i.series_uid),
            uid_place=places.get(i.series_uid),
            study_uid=uid(i.study_uid),
            concatenation=i.concatenation and (uid(i.concatenation[0]), *i.concatenation[1:]),
            source_series=uid(i.source_series),
            references=tuple(map(uid, i.references)),
            reference_sops=tuple(map(uid, i.reference_sops)),
            frame_of_reference_uid=uid(i.frame_of_reference_uid),
            segments=tuple(
                replace(
                    s,
                    label=self.known_words(s.label),
                    type=self._known_code(s.type),
                    category=self._known_code(s.category),
                    references=tuple(map(uid, s.references)),
                    frame_of_reference_uid=uid(s.frame_of_reference_uid),
                )
                for s in i.segments
            ),
            frames=tuple(
                replace(f, acquired_at=_moved(f.acquired_at, days)) if _DATE.match(f.acquired_at) else f
                for f in frames
            ),
            attributes=self._moved_attributes({**attributes, **known}, uid, days),
            # what `match` is to look at, and nothing else
            extras={name: text for name, text in said.items() if known[name] != text},
        )

    def _moved_attributes(
        self, attributes: Mapping[str, AttributeValue], uid: Callable[[str], str], days: timedelta
    ) -> dict[str, AttributeValue]:
        moved: dict[str, AttributeValue] = {}
        for name, value in attributes.items():
            if name in DATE_COLUMNS:
                if text := _moved(str(value), days):
                    moved[name] = text
            elif name == ISSUER_COLUMN:
                moved[name] = self.token("issuer", str(value))[:8]
            else:
                moved[name] = uid(str(value)) if name in UID_COLUMNS else value
        return moved

    def _plain_stack(self, frame: Frame) -> Frame:
        # StackID is free text, and the name of a component is made of it
        if not frame.stack or _PLAIN_STACK.fullmatch(frame.stack):
            return frame
        return replace(frame, stack=self.token("stack", frame.stack)[:8])

    def _nifti(self, nifti: NiftiFile) -> NiftiFile:
        if self.key is None:
            return nifti
        found = self.subject_of_file(path_text(nifti.told_name))
        attributes: dict[str, AttributeValue] = {}
        for name, value in nifti.attributes.items():
            if name in LABEL_COLUMNS and _LOOKS_LIKE_NUMBER.search(str(value)):
                attributes[name] = self.token("label", str(value))[:8]
            elif name in LABEL_COLUMNS | free_text_columns() or (
                name == "suffix" and value not in IMAGE_SUFFIXES
            ):
                attributes[name] = self.known_words(str(value))
            else:
                attributes[name] = value
        if attributes.get(AXIS) == "channel":
            attributes[AXIS_VALUES] = _known_channels(str(attributes.get(AXIS_VALUES, "")))
        return replace(
            nifti,
            segments=tuple(
                (layer, value, self.known_words(label), self._known_code(kind), self._known_code(category))
                for layer, value, label, kind, category in nifti.segments
            ),
            subject=self.subject(found or f"file {nifti.name}"),
            key=self.token("file", nifti.name),
            place=self.token("place", str(nifti.path.resolve())),
            description="",
            extension_bytes=0,
            attributes=attributes,
        )


def _known_channels(values: str) -> str:
    """Names of channels (a JSON list): what may be anybody's word becomes `channel_0`, `channel_1`..."""
    try:
        names = json.loads(values)
    except ValueError:
        return ""
    return json.dumps(
        [name if names_an_image(str(name)) else f"channel_{number}" for number, name in enumerate(names)]
    )


def _age(text: str) -> str:
    """An age as DICOM writes it (045Y, 018M); whoever is 90 or older is 90 (45 CFR 164.514(b)(2)(i)(C))."""
    years = text[:-1] if text.endswith("Y") else ""
    return f"{min(int(years), _OLDEST_YEARS):03d}Y" if years.isdecimal() else text


def _moved(text: str, days: timedelta) -> str:
    """The date at the start of `text` moved by `days`, the time after it as it is; "" where there is none."""
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
        return f"{day + days:%Y%m%d}{text[8:]}"
    except (ValueError, OverflowError):
        return ""
