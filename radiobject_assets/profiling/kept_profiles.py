"""Profiles kept beside the store, in parts: what is new is profiled and appended, nothing else is read again.

`profile/<collection>/<part>.parquet` has a row for each volume; `<part>.signatures.parquet` their thumbnails,
which are large and seldom read. A part is named after the volumes in it, and is written before those that it
takes the place of are removed: whatever interrupts, rows are there once, twice or not at all, and the next
run makes that good. Parts that hold little are joined, so that many small arrivals do not make many files.
A profile whose thumbnail is not there, because two runs joined the same parts at once, is made anew.

Rows name subjects and volumes: where they lie is as confidential as the landing zone.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from radiobject_assets.errors import StorageError
from radiobject_assets.profiling.thumbnail import SIDE, Thumbnail
from radiobject_assets.profiling.volume_profile import VolumeProfile, profile_volume, state_of
from radiobject_assets.store import MissingError, RadiObject, Storage, TileDBContext

FOLDER = "profile"
PART_ROWS = 512
KEYS = ("collection", "obs_subject_id", "obs_id", "kind", "modality", "state")
_THUMBNAILS = ".signatures.parquet"
_TAIL = 1 << 16
_THUMBNAIL_TYPE = pa.binary(2 * SIDE**3)


@dataclass(frozen=True)
class Profiled:
    """What one call did."""

    new: int
    known: int
    left: int = 0
    """Volumes that there was no time for."""
    unreadable: tuple[str, ...] = field(default=(), repr=False)
    """Ids of volumes that can't be read, or whose values can't be counted."""
    seen: tuple[str, ...] = ()
    """Of each of them what was seen, without its name."""

    def __add__(self, other: Profiled) -> Profiled:
        """Both together."""
        return Profiled(
            self.new + other.new, self.known + other.known, self.left + other.left,
            self.unreadable + other.unreadable, self.seen + other.seen,
        )  # fmt: skip


def profile_collection(
    storage: Storage,
    store_uri: str,
    rows: pd.DataFrame,
    collection: str,
    *,
    snapshot: str | None = None,
    is_late: Callable[[], bool] = lambda: False,
    adds_only: bool = False,
    ctx: TileDBContext | None = None,
) -> Profiled:
    """Profile the volumes of a collection that are not, and keep it; rows of volumes that are gone go.

    Parameters
    ----------
    storage
        Where tables are kept.
    rows
        The collection's volumes, from `read_inventory`.
    snapshot
        The one that the rows are of; None: the present state.
    is_late
        Asked before each volume: when it is, what was made is kept, and the rest is left for the next call.
    adds_only
        Remove and join nothing: the rows may be of an older snapshot, while others keep newer profiles.

    Raises
    ------
    StorageError
        Tables can't be read or written. A volume that can't be read, or whose values are out of all bounds,
        stops nothing.
    """
    records = _records(rows)
    wanted = {state_of(row): row for row in records}
    known = _known(storage, collection, wanted.keys(), adds_only)
    volumes = RadiObject(store_uri, ctx=ctx, timestamp=snapshot).collection(collection) if records else None
    made: list[tuple[dict[str, Any], VolumeProfile]] = []
    unreadable: list[str] = []
    seen: list[str] = []
    todo = [(state, row) for state, row in wanted.items() if state not in known]
    done = 0
    try:
        for state, row in todo:
            if volumes is None or is_late():
                break
            done += 1
            keys = {"collection": collection, **{name: row.get(name) for name in KEYS[1:5]}, "state": state}
            try:
                with np.errstate(over="raise"):  # infinite figures are none
                    profile = profile_volume(
                        volumes.loc[row["obs_id"]], modality=row.get("modality"), segments=row.get("segments")
                    )
            except (StorageError, ArithmeticError, ValueError) as error:
                unreadable.append(str(row["obs_id"]))
                # a storage's error names files
                is_ours = isinstance(error, StorageError)
                seen.append("can't be read" if is_ours else f"{type(error).__name__}: {error}")
                continue
            made.append((keys, profile))
            if len(made) == PART_ROWS:
                _append(storage, collection, made)
                made = []
    finally:
        _append(storage, collection, made)
    new = done - len(unreadable)
    return Profiled(new, len(wanted) - len(todo), len(todo) - done, tuple(unreadable), tuple(seen))


def keep_profiles(
    storage: Storage,
    store_uri: str,
    rows: pd.DataFrame,
    *,
    snapshot: str | None = None,
    is_late: Callable[[], bool] = lambda: False,
    adds_only: bool = False,
    on_collection: Callable[[str], None] = lambda name: None,
    ctx: TileDBContext | None = None,
) -> Profiled:
    """Profile all volumes of an inventory that are not (`profile_collection`), and remove profiles of
    collections that are gone, unless it `adds_only`."""
    names = [str(name) for name in rows["collection"].unique()]
    done = Profiled(0, 0)
    for name in names:
        on_collection(name)
        of_one = rows[rows["collection"] == name]
        done += profile_collection(
            storage, store_uri, of_one, name,
            snapshot=snapshot, is_late=is_late, adds_only=adds_only, ctx=ctx,
        )  # fmt: skip
    for entry in () if adds_only else storage.list(FOLDER, recursive=True):
        if entry.path.split("/")[1] not in names:
            storage.remove(entry.path)
    return done


def read_profiles(storage: Storage, collection: str | None = None) -> pd.DataFrame:
    """The profiles that are kept, one row a volume, without thumbnails; empty where there are none.

    Columns: `KEYS`, the figures of `VolumeProfile` and `descriptor`. A volume of which a newer profile is
    kept may have an older one as well: choose by `state`.
    """
    folder = FOLDER if collection is None else f"{FOLDER}/{collection}"
    names = [e.path for e in storage.list(folder, recursive=True) if not e.path.endswith(_THUMBNAILS)]
    frames = [frame for frame in (_frame(storage, name) for name in sorted(names)) if len(frame)]
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype="str") for name in KEYS})
    return pd.concat(frames, ignore_index=True).drop_duplicates(["collection", "state"], ignore_index=True)


def profiles_of(storage: Storage, rows: pd.DataFrame) -> pd.DataFrame:
    """The profiles of these volumes (rows of the inventory), where they are kept, in the rows' order."""
    profiles = read_profiles(storage)
    states = [state_of(row) for row in _records(rows)]
    found = pd.DataFrame({"state": pd.Series(states, dtype="str")}).merge(profiles, on="state", how="left")
    found.index = rows.index
    return found[found["collection"].notna()]


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict(orient="records")]


class Thumbnails:
    """Thumbnails by `state`, read part by part when they are asked for."""

    def __init__(self, storage: Storage, keep: int = 64) -> None:
        self._storage, self._keep = storage, keep
        self._place: dict[str, str] = {}
        sizes = {entry.path: entry.size for entry in storage.list(FOLDER, recursive=True)}
        for path in sizes:
            if path.endswith(_THUMBNAILS):
                continue
            frame = _frame(storage, path, ["state", "descriptor"])
            lacking = _lacking(storage, path, frame, sizes)
            here = {str(state): _beside(path) for state in frame["state"]}
            self._place |= {state: name for state, name in here.items() if state not in lacking}
        self._read: dict[str, dict[str, Thumbnail]] = {}

    def missing(self, states: Iterable[str]) -> set[str]:
        """Those of some profiles' states that should have a thumbnail and have none."""
        return {state for state in states if state not in self._place}

    def get(self, state: str) -> Thumbnail | None:
        """The thumbnail, or None where there is none."""
        name = self._place.get(state)
        if name is None:
            return None
        if name not in self._read:
            if len(self._read) >= self._keep:
                self._read.pop(next(iter(self._read)))
            self._read[name] = _thumbnails(self._storage, name)
        return self._read[name].get(state)


def _frame(storage: Storage, name: str, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(storage.read(name)), columns=columns)
    except MissingError:  # a run joined it with another meanwhile
        return pd.DataFrame({column: [] for column in columns or (*KEYS, "descriptor")})


def _thumbnails(storage: Storage, name: str) -> dict[str, Thumbnail]:
    try:
        table = pq.read_table(pa.BufferReader(storage.read(name)))
    except MissingError:
        return {}
    cubes = (np.frombuffer(raw, np.uint16).reshape((SIDE,) * 3) for raw in table["thumbnail"].to_pylist())
    return dict(zip(table["state"].to_pylist(), cubes, strict=True))


def _beside(figures: str) -> str:
    return figures.removesuffix(".parquet") + _THUMBNAILS


def _lacking(storage: Storage, figures: str, frame: pd.DataFrame, sizes: Mapping[str, int]) -> set[str]:
    """States of a part that have a descriptor, but no thumbnail beside it."""
    wanted = {str(state) for state in frame["state"][frame["descriptor"].notna()]}
    name = _beside(figures)
    if not wanted or _n_thumbnails(storage, name, sizes.get(name, 0)) >= len(wanted):
        return set()
    return wanted - _thumbnails(storage, name).keys()


def _n_thumbnails(storage: Storage, name: str, size: int) -> int:
    """From the end of the file, where parquet says it: thumbnails are large."""
    try:
        tail = storage.range(name, max(0, size - _TAIL), min(size, _TAIL)) if size else b""
    except MissingError:
        return 0
    return int(pq.read_metadata(pa.BufferReader(tail)).num_rows) if tail else 0


def _known(storage: Storage, collection: str, wanted: Collection[str], adds_only: bool) -> set[str]:
    """The states that need no profile; unless it `adds_only`, parts that hold few volumes which are still
    there are written anew, joined, and what no part names is removed."""
    sizes = {entry.path: entry.size for entry in storage.list(f"{FOLDER}/{collection}")}
    figures = sorted(name for name in sizes if not name.endswith(_THUMBNAILS))
    parts = {name: _frame(storage, name) for name in figures}
    known: set[str] = set()
    live: dict[str, list[int]] = {}
    torn: set[str] = set()
    for name, frame in parts.items():
        lacking = set() if adds_only else _lacking(storage, name, frame, sizes)
        torn |= {name} if lacking else set()
        states = [str(state) for state in frame["state"]]
        live[name] = [i for i, s in enumerate(states) if s in wanted and s not in known and s not in lacking]
        known |= {states[i] for i in live[name]}
    if adds_only:
        return known
    for name in sizes.keys() - parts.keys():
        written = name.removesuffix(_THUMBNAILS) + ".parquet"
        if written not in parts and not storage.exists(written):
            storage.remove(name)  # its figures were not written any more
    small = [name for name in parts if name in torn or len(live[name]) < PART_ROWS // 2]
    is_tidy = len(small) <= 1 and all(len(live[name]) == len(parts[name]) for name in small)
    if is_tidy:
        return known
    thumbnails: dict[str, Thumbnail] = {}
    for name in list(small):
        there = _thumbnails(storage, _beside(name))
        rows = parts[name].iloc[live[name]]
        if not set(rows["state"][rows["descriptor"].notna()]) <= there.keys():
            small.remove(name)  # another run joins it at this moment
            continue
        thumbnails |= there
    joined = [parts[name].iloc[live[name]] for name in small if live[name]]
    _write_part(storage, collection, joined, thumbnails, small)
    return known


def _append(storage: Storage, collection: str, made: Sequence[tuple[dict[str, Any], VolumeProfile]]) -> None:
    if not made:
        return
    rows = [{**keys, **profile.figures, "descriptor": _listed(profile.descriptor)} for keys, profile in made]
    thumbnails = {k["state"]: p.thumbnail for k, p in made if p.thumbnail is not None}
    _write_part(storage, collection, [pd.DataFrame(rows)], thumbnails, ())


def _write_part(
    storage: Storage,
    collection: str,
    frames: Sequence[pd.DataFrame],
    thumbnails: dict[str, Thumbnail],
    in_place_of: Sequence[str],
) -> None:
    written = ""
    if frames:
        frame = pd.concat(frames, ignore_index=True)
        digest = hashlib.blake2b(json.dumps(sorted(frame["state"])).encode(), digest_size=12).hexdigest()
        written = f"{FOLDER}/{collection}/{digest}.parquet"
        here = [state for state in frame["state"] if state in thumbnails]
        keys = frame[frame["state"].isin(here)][["obs_subject_id", "obs_id", "state"]]
        table = pa.Table.from_pandas(keys, preserve_index=False).append_column(
            "thumbnail", pa.array([thumbnails[s].tobytes() for s in keys["state"]], _THUMBNAIL_TYPE)
        )
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd")
        storage.write(f"{FOLDER}/{collection}/{digest}{_THUMBNAILS}", file.getvalue())
        file = io.BytesIO()
        frame.to_parquet(file, compression="zstd")
        storage.write(written, file.getvalue())
    for name in in_place_of:
        if name != written:
            storage.remove(name)
            storage.remove(_beside(name))


def _listed(values: NDArray[np.float32] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
