"""Files of a work folder and beside a store, without a person: rows, entries, or the whole file.

Everything is looked at, whatever room wrote it, so that a table that another room adds is not forgotten here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from radiobject_assets.doctor.snapshot_mends import ASIDE
from radiobject_assets.errors import StorageError
from radiobject_assets.forgetting.traces import Traces
from radiobject_assets.resources.working_tables import change_file
from radiobject_assets.store import MissingError, Storage

# Voxels, files of the landing zone and manifests (made anew from the store) have rules of their own.
_APART = ("patches/", "copies/", "previews/", "forgetting/", "manifests/")
_IN_LINES = frozenset({".csv", ".tsv", ".jsonl"})
_TEXT = frozenset({".txt", ".md", ".html", ".htm", ".log", ".yaml", ".yml", ".xml", ".svg"})
_NOTHING = object()
TORN = (pa.ArrowException, OSError, ValueError)
"""What reading a table raises that was cut off or changed."""


class UnreadableTableError(StorageError):
    """A table is torn, so nobody can tell whether it holds the person."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} can't be read, so it may hold the person; `radiobject-assets doctor STORE --dataset "
            "dataset.yaml --fix` mends it or sets it aside, then forget once more"
        )


def documents_with(storage: Storage, traces: Traces) -> Iterator[str]:
    """Names of the files that name a person.

    Raises
    ------
    StorageError
        A table can't be read. What a doctor set aside for that reason is passed over: nobody can tell.
    """
    for name, content in _documents(storage):
        try:
            if _without(name, content, traces) is not content:
                yield name
        except UnreadableTableError:
            if not _is_aside(name):
                raise


def clear_documents(storage: Storage, traces: Traces) -> int:
    """Take a person out of every file; returns how many were written anew or removed.

    What a doctor set aside and nobody can read goes as well: it may hold them.

    Raises
    ------
    StorageError
        Another table can't be read, or others write one all the time.
    """
    changed = 0
    for name, content in _documents(storage):
        try:
            kept = _without(name, content, traces)
        except UnreadableTableError:
            if not _is_aside(name):
                raise
            kept = None
        if kept is content:
            continue
        if kept is None:
            storage.remove(name)
        elif not change_file(storage, name, partial(_kept, name, traces)):
            raise StorageError(f"{storage.uri}/{name}: others write it all the time; forget once more")
        changed += 1
    return changed


def _is_aside(name: str) -> bool:
    return name.startswith(f"{ASIDE}/")


def _kept(name: str, traces: Traces, content: bytes | None) -> bytes | None:
    return None if content is None else _without(name, content, traces)


def _documents(storage: Storage) -> Iterator[tuple[str, bytes]]:
    for entry in storage.list(recursive=True):
        if not entry.path.startswith(_APART):
            try:
                yield entry.path, storage.read(entry.path)
            except MissingError:  # a run took it away meanwhile
                continue


def _without(name: str, content: bytes, traces: Traces) -> bytes | None:
    """The file without the person: `content` itself where they are not in it, None where nothing is left."""
    kinds: dict[str, Callable[[bytes, Traces], bytes | None]] = {".parquet": _of_table, ".json": _of_json}
    kind = PurePosixPath(name).suffix.lower()
    if traces.in_text(name):
        return None
    if kind in kinds:
        try:
            return kinds[kind](content, traces)
        except TORN:
            raise UnreadableTableError(name) from None
    if kind in _IN_LINES:
        return _of_lines(content, traces)
    if kind in _TEXT and traces.in_text(content.decode("utf-8", "replace")):
        return None
    return content


def _of_table(content: bytes, traces: Traces) -> bytes | None:
    table = pq.read_table(pa.BufferReader(content))
    theirs = [False] * table.num_rows
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_primitive(column.type) or pa.types.is_null(column.type):
            continue
        if _is_of_numbers(column.type):
            continue
        known: dict[str, bool] = {}
        for row, value in enumerate(column.to_pylist()):
            if value is None or theirs[row]:
                continue
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            if text not in known:
                known[text] = _in_cell(value, name, traces)
            theirs[row] = known[text]
    if not any(theirs):
        return content
    file = io.BytesIO()
    pq.write_table(table.filter(pa.array([not one for one in theirs])), file)
    return file.getvalue()


def _is_of_numbers(kind: pa.DataType) -> bool:
    """Histograms, signatures: long, and no text is in them."""
    is_listed = pa.types.is_list(kind) and pa.types.is_primitive(kind.value_type)
    return bool(pa.types.is_fixed_size_binary(kind) or is_listed)


def _in_cell(value: Any, column: str, traces: Traces) -> bool:
    if isinstance(value, str) and value[:1] in "{[" and value[-1:] in "}]":
        try:
            return traces.in_value(json.loads(value), column)
        except ValueError:
            pass
    return traces.in_value(value, column)


def _of_json(content: bytes, traces: Traces) -> bytes | None:
    try:
        document = json.loads(content)
    except ValueError:
        return None if traces.in_text(content.decode("utf-8", "replace")) else content
    if not traces.in_value(document):
        return content
    kept = _pruned(document, traces, "")
    return None if kept is _NOTHING else json.dumps(kept, indent=2).encode("utf-8")


def _pruned(value: Any, traces: Traces, key: str, in_list: bool = False) -> Any:
    """A document without what names the person: the entry of a list that it is in, else of a mapping."""
    if isinstance(value, list):
        kept = [_pruned(item, traces, key, in_list=True) for item in value]
        return [item for item in kept if item is not _NOTHING]
    if not isinstance(value, dict):
        return _NOTHING if traces.in_value(value, key) else value
    found = {}
    for name, inner in value.items():
        if traces.in_value(str(name)):
            continue
        kept = _pruned(inner, traces, str(name), in_list)
        if kept is not _NOTHING:
            found[name] = kept
        elif in_list or not isinstance(inner, dict):
            return _NOTHING  # what is said in the same breath is said of the same person
    return found


def _of_lines(content: bytes, traces: Traces) -> bytes | None:
    lines = content.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    kept = [line for line in lines if not traces.in_text(line) and traces.subjects.isdisjoint(_cells(line))]
    if len(kept) == len(lines):
        return content
    return "".join(kept).encode("utf-8", "surrogateescape")


def _cells(line: str) -> set[str]:
    separator = "\t" if "\t" in line else ","
    return {cell.strip().strip('"') for cell in line.split(separator)}
