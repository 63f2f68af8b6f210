"""Everything that the public API can be asked of a store, each answer as one digest.

Asked are the present and every named snapshot: rows, filters, every volume whole and in parts. The same
questions are put to a sound store and to a damaged one, each by itself: an error in one hides no other.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pandas as pd

from radiobject_assets import store as package
from radiobject_assets.errors import RadiObjectError
from radiobject_assets.store import RadiObject, Volume, VolumeCollection, list_snapshots
from tests.store.campaign.content import canonical
from tests.store.campaign.worker import Setting, prepare

Question = tuple[str, Callable[[], Any]]


@dataclass
class Answers:
    """What was answered, by question."""

    values: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    """Questions that ended in an error of the library's own."""
    raw: dict[str, str] = field(default_factory=dict)
    """Questions that ended in any other error."""
    verify: list[str] = field(default_factory=list)
    """What the store's own check found."""


@dataclass(frozen=True)
class Plan:
    """What there is to ask about: by state (None for the present) its collections with their ids."""

    states: dict[str | None, dict[str, tuple[str, ...]]]
    subjects: tuple[str, ...]


def plan_of(uri: str) -> Plan:
    """All that a sound store has."""
    states: dict[str | None, dict[str, tuple[str, ...]]] = {}
    for name in (None, *(snapshot.name for snapshot in list_snapshots(uri))):
        radi = RadiObject(uri, timestamp=name)
        states[name] = {c: tuple(radi.collection(c).obs_ids) for c in radi.collection_names}
    return Plan(states, tuple(RadiObject(uri).obs_subject_ids))


def ask(uri: str, plan: Plan) -> Answers:
    """Put every question."""
    answers = Answers()
    for name, question in _all(uri, plan):
        try:
            answers.values[name] = _digest(question())
        except RadiObjectError as error:
            answers.told[name] = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - that it is another kind of error is the finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            answers.raw[name] = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
    for name, check in _checks(uri, plan):
        try:
            answers.verify += [f"{name}: {problem}" for problem in check()]
        except Exception as error:  # noqa: BLE001 - an error is a finding too
            answers.verify.append(f"{name}: {type(error).__name__}: {error}")
    return answers


def answer(connection: Connection, setting: Setting, plan: Plan | None) -> None:
    """In a child: the plan of a sound store, or the answers of one that may be damaged."""
    prepare(setting)
    connection.send(("begin", 0, time.monotonic()))
    result: Any = plan_of(setting.uri) if plan is None else ask(setting.uri, plan)
    connection.send(("done", 0, time.monotonic(), result))
    connection.send(("end",))
    connection.close()


def _all(uri: str, plan: Plan) -> Iterator[Question]:
    yield "snapshots", lambda: [(s.name, s.digest, sorted(s.counts.items())) for s in list_snapshots(uri)]
    for state, collections in plan.states.items():
        title = state or "the present"
        opened: list[RadiObject] = []

        def radi(state: str | None = state, opened: list[RadiObject] = opened) -> RadiObject:
            if not opened:
                opened.append(RadiObject(uri, timestamp=state))
            return opened[0]

        for name, question in _of_store(radi, plan):
            yield f"{title}: {name}", question
        for collection, ids in collections.items():
            for name, question in _of_collection(radi, collection, ids, state is None):
                yield f"{title}: {collection}: {name}", question


def _of_store(radi: Callable[[], RadiObject], plan: Plan) -> Iterator[Question]:
    yield "collections", lambda: radi().collection_names
    yield "subjects", lambda: _frame(radi().obs_meta.read())
    yield "ages", lambda: _frame(radi().obs_meta.read(columns=["age"]))
    yield "ids", lambda: radi().all_obs_ids
    yield "filter", lambda: radi().filter("age >= 50").obs_subject_ids
    yield "filter of rows", lambda: _frame(radi().obs_meta.read(value_filter="age < 50"))
    yield "text", lambda: radi().describe()
    yield "validate", lambda: radi().validate()


# What is asked of a volume in snapshots too: there the same arrays are read by the same ways.
_EVERYWHERE = ("header", "region", "stored")


def _of_collection(
    radi: Callable[[], RadiObject], name: str, ids: tuple[str, ...], present: bool
) -> Iterator[Question]:
    def collection() -> VolumeCollection:
        return radi().collection(name)

    yield "rows", lambda: _frame(collection().to_obs())
    yield "filter", lambda: collection().filter("modality == 'CT'").obs_ids
    yield "filter of numbers", lambda: collection().filter("dose >= 3").obs_ids
    yield "shapes", lambda: (collection().shape, collection().is_uniform, len(collection()))
    yield "by subject", lambda: [(s, view.obs_ids) for s, view in collection().groupby_subject()]
    if present:
        yield "one column", lambda: _frame(collection().obs.read(columns=["series_uid"]))
        yield "filter of rows", lambda: _frame(collection().obs.read(["dose"], "voxel_bytes > 100"))
        yield "query", lambda: _frame(collection().lazy().filter("modality != 'MR'").to_obs())
    for position, obs_id in enumerate(ids):
        for what, question in _of_volume(collection, position, obs_id):
            if what in _EVERYWHERE or present:
                yield f"volume {position}: {what}", question


def _of_volume(collection: Callable[[], VolumeCollection], position: int, obs_id: str) -> Iterator[Question]:
    def volume() -> Volume:
        return collection()[obs_id]

    yield "row", lambda: collection().get_obs_row_by_obs_id(obs_id)["voxel_digest"].tolist()
    yield "header", lambda: _header(collection().iloc[position])
    yield "region", lambda: volume()[1:3, 1:, :2]
    yield "stored", lambda: volume().to_numpy(stored=True)
    yield "physical", lambda: volume().to_numpy()
    yield "axial", lambda: volume().axial(volume().shape[2] - 1)
    yield "slabs", lambda: [(z, t, _digest(part)) for z, t, part in volume().iter_slabs()]
    yield "statistics", lambda: sorted(volume().get_statistics().items())
    yield "alone", lambda: _alone(Volume(volume().uri))


def _header(volume: Volume) -> Any:
    affine = volume.affine.tolist()
    return volume.obs_id, volume.shape, str(volume.stored_dtype), affine, volume.slope, volume.intercept


def _alone(volume: Volume) -> Any:
    return _header(volume), volume.tile_extents, _digest(volume.to_numpy(stored=True))


def _checks(uri: str, plan: Plan) -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """The check that a user has for a whole store; before there was one, that of each collection."""
    whole = getattr(package, "verify_store", None)
    if whole is not None:
        yield "the store", lambda: list(whole(uri))
        return
    for state, collections in plan.states.items():
        for name in collections:

            def check(state: str | None = state, name: str = name) -> list[Any]:
                return RadiObject(uri, timestamp=state).collection(name).verify()

            yield f"{state or 'the present'}: {name}", check


def _frame(frame: pd.DataFrame) -> Any:
    columns = sorted(frame.columns)
    return columns, [[canonical(value) for value in frame[name]] for name in columns]


def _digest(value: Any) -> str:
    if isinstance(value, np.ndarray):
        text = f"{value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes()
    else:
        text = repr(value).encode()
    return hashlib.sha256(text).hexdigest()
