"""What a process of the campaign can do to a store, each through the public API.

An `Operation` carries what to do and, in the model's words, the steps that it takes. A step may be seen or
not; steps of one operation come in order, as its documentation says (subjects before volumes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import pandas as pd

from radiobject_assets import store as package
from radiobject_assets.store import (
    RadiObject,
    RadiObjectWriter,
    VolumeCollectionWriter,
    commit_volumes,
    consolidate,
    create_snapshot,
    delete_subjects,
    ensure_collection,
    stage_volume,
    upsert_subjects,
    vacuum,
)
from tests.store.campaign.content import Value, VolumeSpec, affine, expected_row, row_of, voxels
from tests.store.campaign.model import Step
from tests.store.campaign.reading import Seen, read_state

Note = Callable[[str], None]
"""Tells the campaign how far an operation is: a moment to aim a disturbance at."""


@dataclass(frozen=True)
class Operation:
    """One call (or one `with` block) of the public API, and what it means."""

    kind: str
    what: Mapping[str, Any]
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        shown = {k: v for k, v in self.what.items() if k != "specs"}
        if "specs" in self.what:
            shown["volumes"] = [f"{s.obs_id}#{s.seed}" for s in self.what["specs"]][:4]
        return f"{self.kind} {shown}"


@dataclass(frozen=True)
class Look:
    """What a reader saw, and whether the object that it kept still shows it later."""

    seen: Seen
    at: float
    """When it had been read, by the monotonic clock."""
    later: tuple[Seen, ...]
    """What the same objects showed again: the store, then a view of its first subjects."""
    view: Seen
    """What the view showed at first."""
    error: str = ""
    """What reading again raised."""


# -- in the campaign: what an operation means ----------------------------------------------------------


def _rows(specs: Sequence[VolumeSpec]) -> dict[str, Any]:
    return {spec.obs_id: expected_row(spec) for spec in specs}


def append(where: str, specs: Sequence[VolumeSpec], kind: str = "append") -> Operation:
    """New or replaced volumes in one commit; `write` by a VolumeCollectionWriter, with a flush after half."""
    made, half = Step("make collection", where), len(specs) // 2
    parts = [specs] if kind == "append" or not half else [specs[:half], specs[half:]]
    puts = tuple(Step("put rows", where, _rows(part), or_first=kind == "write") for part in parts)
    return Operation(kind, {"where": where, "specs": tuple(specs)}, (made, *puts))


def through_store(
    where: str,
    specs: Sequence[VolumeSpec],
    subjects: Mapping[str, Mapping[str, Value]],
    kind: str,
    folder: str,
) -> Operation:
    """Volumes with their subjects: `store_write` by a RadiObjectWriter, `ingest` by `RadiObject.append`."""
    told = Step("change subjects", rows={s: row_of(values) for s, values in subjects.items()})
    writes = kind == "store_write"
    known = Step("put subjects", rows={spec.subject: frozenset() for spec in specs}, or_first=writes)
    rows = Step("put rows", where, _rows(specs), or_first=writes)
    steps = (told, Step("make collection", where), known, rows)
    if kind == "ingest":
        steps = (steps[1], told, known, steps[3])
    what = {"where": where, "specs": tuple(specs), "subjects": dict(subjects), "folder": folder}
    return Operation(kind, what, steps)


def delete(where: str, ids: Sequence[str]) -> Operation:
    """Volumes deleted from the present."""
    return Operation(
        "delete", {"where": where, "ids": list(ids)}, (Step("delete rows", where, names=tuple(ids)),)
    )


def update_obs(where: str, owners: Mapping[str, str], columns: Mapping[str, Sequence[Value]]) -> Operation:
    """Free columns of volumes, one value for each of `owners` (subject by obs_id)."""
    rows, cleared = _changes(list(owners), columns)
    step = Step("change rows", where, rows, cleared)
    return Operation(
        "update_obs", {"where": where, "owners": dict(owners), "columns": dict(columns)}, (step,)
    )


def update_subjects(ids: Sequence[str], columns: Mapping[str, Sequence[Value]]) -> Operation:
    """Columns of subjects, new or known."""
    rows, cleared = _changes(ids, columns)
    what = {"ids": list(ids), "columns": dict(columns)}
    return Operation("update_subjects", what, (Step("change subjects", rows=rows, cleared=cleared),))


def _changes(
    ids: Sequence[str], columns: Mapping[str, Sequence[Value]]
) -> tuple[dict[str, Any], frozenset[str]]:
    values = {i: {name: column[n] for name, column in columns.items()} for n, i in enumerate(ids)}
    return {i: row_of(row) for i, row in values.items()}, frozenset(columns)


def delete_subject_rows(mark: int) -> Operation:
    """Rows of subjects deleted by a condition on their column `mark`."""
    return Operation("delete_subject_rows", {"mark": mark}, (Step("delete subjects", names=(str(mark),)),))


def drop_column(name: str) -> Operation:
    """A column of subjects dropped."""
    return Operation("drop_column", {"name": name}, (Step("drop subject column", names=(name,)),))


def rename(old: str, new: str) -> Operation:
    """Another name for a collection."""
    return Operation("rename", {"old": old, "new": new}, (Step("rename", names=(old, new)),))


def snapshot(name: str) -> Operation:
    """The present state under a name."""
    return Operation("snapshot", {"name": name}, (Step("snapshot", name),))


def erase(subjects: Sequence[str]) -> Operation:
    """Subjects removed from everything."""
    return Operation("erase", {"subjects": list(subjects)}, (Step("erase", names=tuple(subjects)),))


def tidy(kind: str, grace_s: float = 0.0) -> Operation:
    """`consolidate`, `vacuum` or `verify`: nothing that a reader sees changes."""
    return Operation(kind, {"grace_s": grace_s} if kind == "vacuum" else {})


def read(hold_s: float) -> Operation:
    """Read all of the present, keep the objects open, and read them again."""
    return Operation("read", {"hold_s": hold_s})


# -- in the child: doing it ---------------------------------------------------------------------------


def perform(uri: str, operation: Operation, note: Note) -> Any:
    """Do it, in this process; returns what the campaign wants to know of it."""
    what = operation.what
    match operation.kind:
        case "append":
            _append(uri, what["where"], what["specs"], note)
        case "write":
            _write(VolumeCollectionWriter(ensure_collection(uri, what["where"])), what["specs"], note)
        case "store_write":
            with RadiObjectWriter(uri) as writer:
                writer.write_obs_meta(_frame(what["subjects"]))
                _write(writer.add_collection(what["where"]), what["specs"], note, halves=False)
        case "ingest":
            _ingest(uri, what)
        case "delete":
            RadiObject(uri).collection(what["where"]).delete(what["ids"])
        case "update_obs":
            owners = what["owners"]
            keys = {"obs_id": list(owners), "obs_subject_id": list(owners.values())}
            RadiObject(uri).collection(what["where"]).obs.update(pd.DataFrame({**keys, **what["columns"]}))
        case "update_subjects":
            upsert_subjects(uri, pd.DataFrame({"obs_subject_id": what["ids"], **what["columns"]}))
        case "delete_subject_rows":
            return RadiObject(uri).obs_meta.delete(f"mark == {what['mark']}")
        case "drop_column":
            RadiObject(uri).obs_meta.drop_column(what["name"])
        case "rename":
            RadiObject(uri).rename_collection(what["old"], what["new"])
        case "snapshot":
            return create_snapshot(uri, what["name"]).digest
        case "consolidate":
            consolidate(uri)
        case "vacuum":
            vacuum(uri, grace_s=what["grace_s"])
        case "erase":
            return delete_subjects(uri, what["subjects"]).files_searched
        case "verify":
            return verify(uri)
        case "read":
            return _read(uri, what["hold_s"], note)
        case other:
            raise ValueError(f"no operation {other!r}")
    return None


def verify(uri: str) -> list[str]:
    """What the store's own check finds."""
    whole = getattr(package, "verify_store", None)
    if whole is not None:
        return [str(problem) for problem in whole(uri)]
    radi = RadiObject(uri)
    return [str(problem) for name in radi.collection_names for problem in radi.collection(name).verify()]


def _append(uri: str, where: str, specs: Sequence[VolumeSpec], note: Note) -> None:
    target = ensure_collection(uri, where)
    staged = [
        stage_volume(
            target,
            obs_id=spec.obs_id,
            obs_subject_id=spec.subject,
            voxels=voxels(spec),
            affine=affine(spec),
            slope=spec.slope,
            intercept=spec.intercept,
            attributes=spec.attributes,
            sources=[f"1.2.3.{spec.subject}"],
        )
        for spec in specs
    ]
    note("staged")
    commit_volumes(target, staged)


def _write(
    writer: VolumeCollectionWriter, specs: Sequence[VolumeSpec], note: Note, halves: bool = True
) -> None:
    with writer:
        for number, spec in enumerate(specs):
            if halves and number == len(specs) // 2:
                writer.flush()
                note("flushed")
            writer.write_volume(voxels(spec), spec.obs_id, spec.subject, affine(spec), **spec.attributes)
        note("staged")


def _ingest(uri: str, what: Mapping[str, Any]) -> None:
    pairs = []
    for spec in what["specs"]:
        path = Path(what["folder"]) / f"{spec.seed}.nii"
        image = nibabel.Nifti1Image(voxels(spec), affine(spec))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, path)
        pairs.append((str(path), spec.subject))
    RadiObject(uri).append(
        {what["where"]: pairs}, _frame(what["subjects"]), format_hint={what["where"]: "nifti"}
    )


def _frame(subjects: Mapping[str, Mapping[str, Value]]) -> pd.DataFrame:
    return pd.DataFrame([{"obs_subject_id": subject, **values} for subject, values in subjects.items()])


def _read(uri: str, hold_s: float, note: Note) -> Look:
    radi = RadiObject(uri)
    view = radi.iloc[:2]
    seen, of_view, at = read_state(radi), read_state(view), time.monotonic()
    note("read")
    time.sleep(hold_s)
    try:
        again = (read_state(radi), read_state(view))
    except Exception as error:  # noqa: BLE001 - whatever it is, the campaign judges it
        return Look(seen, at, (), of_view, f"{type(error).__name__}: {error}")
    return Look(seen, at, again, of_view)
