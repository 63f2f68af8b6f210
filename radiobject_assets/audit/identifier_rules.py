"""Identifier rules: who was examined, as headers, names of files and texts beside images say it.

What is found is told by the place where it stands, never by what it says.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from radiobject_assets.audit.folder_view import FolderView
from radiobject_assets.audit.identifying_texts import identifying, telling_attributes, words_of_name
from radiobject_assets.diagnostics import folder_kinds as kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom.headers import PersonReader
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.files.volume_names import without_ending
from radiobject_assets.imaging.nifti.extensions import MAX_EXTENSION_BYTES, embedded_texts
from radiobject_assets.imaging.nifti.header import NiftiFile, header_texts
from radiobject_assets.imaging.opening.members import local_copy
from radiobject_assets.ingest.identity import token

_MAX_JSON = 1 << 20
_SHOWN = 3


class HeaderPersons:
    """What DICOM headers say of persons, collected file by file; forgotten with the audit."""

    def __init__(self) -> None:
        self._reader = PersonReader()
        self._telling: dict[tuple[str, tuple[str, ...]], list[Path]] = defaultdict(list)
        self.names: set[str] = set()
        self.looked = 0

    def look(self, instance: Instance, path: Path) -> None:
        """Read the attributes of one file that say who was examined; one that can't be read says nothing.

        `path` is where it lies now: that of `instance`, or of its copy.
        """
        values = self._reader.read(path)
        if values is None:
            return
        self.looked += 1
        self.names |= words_of_name(values.get("PatientName", ""))
        if found := telling_attributes(values):
            person = instance.patient_id or instance.study_uid
            self._telling[person, found].append(instance.path)

    def findings(self, view: FolderView) -> Report:
        """One finding for each person, and what of them is told."""
        by_person: dict[str, tuple[set[str], list[Path]]] = {}
        for (person, keywords), paths in self._telling.items():
            known = by_person.setdefault(person, (set(), []))
            known[0].update(keywords)
            known[1].extend(paths)
        numbers = _numbered(by_person)
        found = [
            Finding(
                kinds.HEADER_IDENTIFIERS,
                f"person {numbers[person]}",
                f"{', '.join(sorted(keywords))} in {len(paths)} files",
                where=_some([view.name_of(path) for path in paths]),
            )
            for person, (keywords, paths) in by_person.items()
        ]
        return Report(self.looked, "DICOM headers", tuple(found))


def _numbered(texts: Collection[str]) -> dict[str, int]:
    """A number for each text, in an order that tells of none: the digest of a patient's number or name is
    found again by trying all there are, so that findings have no such digest.

    The same texts have the same numbers, so that who has the folder finds what one means.
    """
    every = "\0".join(sorted(texts))
    return {one: n for n, one in enumerate(sorted(texts, key=lambda one: token(f"{one}\0{every}", 32)), 1)}


def identifying_names(view: FolderView) -> Report:
    """No file or folder is called after a person, by a date, or by a patient's number."""
    places: dict[str, list[str]] = defaultdict(list)
    judged: dict[str, tuple[str, ...]] = {}
    for name in view.names:
        parts = PurePosixPath(name).parts
        for depth, part in enumerate(parts):
            plain = _stem(part) if depth == len(parts) - 1 else part
            if plain not in judged:
                judged[plain] = identifying(plain, view.header_names)
            if judged[plain]:
                # an image, its sidecar and its labels share a name, which is told of once
                places[plain].append("/".join(parts[: depth + 1]))
                break
    numbers = _numbered(places)
    findings = [
        Finding(
            kinds.NAME_IDENTIFIERS,
            f"name {numbers[plain]}",
            f"{', '.join(judged[plain])} in the name of {len(found)} file{'s' * (len(found) > 1)}",
            where=_some(list(dict.fromkeys(found))),
        )
        for plain, found in places.items()
    ]
    return Report(len(view.names), "names", tuple(findings))


def _stem(name: str) -> str:
    for ending in (".json", ".bval", ".bvec", ".dcm"):
        name = name.removesuffix(ending)
    return without_ending(name)


def identifying_in_texts(view: FolderView) -> Report:
    """Neither the texts of NIfTI headers nor JSON files say who was examined."""
    found = []
    looked = 0
    for path, told in _texts(view):
        looked += 1
        if told:
            name = view.name_of(path)
            evidence = "; ".join(sorted({what for _, what in told}))
            keys = ", ".join(sorted({key for key, _ in told}))
            where = f"{name}: {keys}"  # keys of a JSON file are anybody's words
            found.append(Finding(kinds.TEXT_IDENTIFIERS, f"file {token(name, 10)}", evidence, where=where))
    packed = sum(n.lower().endswith(".json") and not (view.folder / n).is_file() for n in view.names)
    said = f"{packed} JSON files in archives were not read for what they say of persons" if packed else ""
    return Report(looked, "texts of images", tuple(found), said=said)


_Told = list[tuple[str, str]]
"""Field or key, and what is told in it."""


def _texts(view: FolderView) -> Iterator[tuple[Path, _Told]]:
    files = {item.series.nifti.path: item.series for item in view.items if item.series.nifti}
    for path, series in sorted(files.items()):
        with suppress(ImageReadError), local_copy(series) as local:
            if local.nifti is not None and local.nifti.format == "nifti":
                yield path, _in_nifti(local.nifti, view)
    for name in view.names:
        path = view.folder / name
        if name.lower().endswith(".json") and path.is_file():
            yield path, _in_json(path, view)


def _in_nifti(nifti: NiftiFile, view: FolderView) -> _Told:
    opened: Any = gzip.open if nifti.compressed else open
    try:
        with opened(nifti.path, "rb") as file:
            header = file.read(min(max(nifti.data_offset, 544), MAX_EXTENSION_BYTES))
    except (OSError, EOFError, zlib.error):
        return []
    texts = dict(header_texts(header, nifti))
    texts |= {f"extension {code}": text for code, text in embedded_texts(header, nifti)}
    return [(place, f"{place}: {told}") for place, told in _found(texts, view)]


def _in_json(path: Path, view: FolderView) -> _Told:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _MAX_JSON else None
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(content, dict):
        return []
    values = {str(key): str(value) for key, value in content.items() if isinstance(value, str | int)}
    keywords = set(telling_attributes(values))
    patient_id = values.get("PatientID", "").strip()
    if patient_id and patient_id not in path.as_posix():  # a research id is in the file's name as well
        keywords.add("PatientID")
    texts = {key: text for key, text in _strings(content) if key not in keywords}
    told = [(keyword, f"{keyword} is told") for keyword in keywords]
    return told + [(key, f"a text: {what}") for key, what in _found(texts, view)]


def _strings(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, str):
            yield above + str(key), value
        elif isinstance(value, dict):
            yield from _strings(value, f"{above}{key}.")


def _found(texts: Mapping[str, str], view: FolderView) -> _Told:
    return [
        (place, ", ".join(found))
        for place, text in texts.items()
        if (found := identifying(text, view.header_names, dates=False))
    ]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(sorted(names)[:_SHOWN]) + more
