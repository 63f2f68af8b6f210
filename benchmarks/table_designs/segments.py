"""Immutable segments of rows and numbered state manifests, published if absent (prototype of design b).

    log/<number>.json           the whole state: its segments with their digests, and those of each snapshot
    rows/<base>-<token>.<kind>  rows put, and marks of deleted ones; `base` is the state that its writer saw

The newest number is the state. A commit publishes the next number or begins again on the newer state. Of two
rows with one key the later segment's counts. A segment with base B can only ever be named by manifest B + 1
first, so once B + 1 is there, one that no state names is a left-over whoever wrote it, alive or not.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather
import pyarrow.parquet as pq
from blake3 import blake3

from benchmarks.table_designs.design import Place
from benchmarks.table_designs.places import files_at
from benchmarks.table_designs.rows import KEY, SUBJECT

Segment = tuple[str, str]
"""Name and digest."""
State = dict[str, Any]
"""`segments`: list of Segment, oldest first; `snapshots`: such a list by name."""

_GONE = "deleted"
_TRIES = 50


class Damage(RuntimeError):
    """A file is not what the state says."""


class Segments:
    """The table; `kind` is the form of its segments."""

    kind: Literal["parquet", "arrow"] = "parquet"

    def __init__(self, place: Place) -> None:
        self.place = place
        self._files = files_at(place)

    # -- states -------------------------------------------------------------------------------------

    def _newest(self) -> tuple[int, State]:
        names = [name for name in self._files.names("log") if name.endswith(".json")]
        if not names:
            return 0, {"segments": [], "snapshots": {}}
        number = int(names[-1].removesuffix(".json"))
        digest, _, body = self._files.read(f"log/{names[-1]}").partition(b"\n")
        if blake3(body).hexdigest().encode() != digest or (found := json.loads(body))["number"] != number:
            raise Damage(f"manifest {number} is damaged")
        return number, found

    def _commit(self, change: Callable[[int, State], State | None]) -> int:
        """Publish what `change` makes of the newest state, on a newer one if another was faster."""
        for _ in range(_TRIES):
            number, state = self._newest()
            try:
                changed = change(number, state)
            except FileNotFoundError:  # vacuum was faster: there is a newer state
                continue
            if changed is None:
                return number
            body = json.dumps({**changed, "number": number + 1}).encode()
            name = f"log/{number + 1:012d}.json"
            if self._files.publish(name, blake3(body).hexdigest().encode() + b"\n" + body):
                return number + 1
        raise RuntimeError("others committed faster in every one of many tries")

    # -- segments -----------------------------------------------------------------------------------

    def _write(self, base: int, rows: pa.Table) -> Segment:
        sink = io.BytesIO()
        if self.kind == "parquet":
            pq.write_table(rows, sink, compression="zstd", store_schema=False)
        else:
            feather.write_feather(rows, sink, compression="zstd")
        name = f"rows/{base:012d}-{secrets.token_hex(8)}.{self.kind}"
        self._files.write(name, sink.getvalue())
        return name, blake3(sink.getvalue()).hexdigest()

    def _open(self, segment: Segment, columns: list[str] | None = None) -> pa.Table:
        data = self._files.read(segment[0])
        if blake3(data, max_threads=blake3.AUTO).hexdigest() != segment[1]:
            raise Damage(f"{segment[0]} is damaged")
        if self.kind == "parquet":
            return pq.ParquetFile(pa.BufferReader(data)).read(columns)
        names = pa.ipc.open_file(data).schema.names
        chosen = None if columns is None else [names.index(name) for name in columns if name in names]
        return pa.ipc.open_file(data, options=pa.ipc.IpcReadOptions(included_fields=chosen)).read_all()

    def _merged(self, segments: Iterable[Segment], columns: list[str] | None = None) -> pa.Table:
        needed = None if columns is None else [*dict.fromkeys([KEY, _GONE, *columns])]
        parts: list[pa.Table] = []
        later: pa.Array | None = None
        for segment in reversed(list(segments)):
            rows = self._open(segment, needed)
            keys = rows[KEY].combine_chunks()
            if later is not None:
                rows = rows.filter(pc.invert(pc.is_in(rows[KEY], later)))
            later = keys if later is None else pa.concat_arrays([later, keys])
            parts.append(rows.filter(pc.invert(rows[_GONE])).drop_columns([_GONE]))
        return pa.concat_tables(reversed(parts), promote_options="default")

    def _show(self, snapshot: str | None, columns: list[str] | None) -> pa.Table:
        for left in reversed(range(_TRIES)):
            _, state = self._newest()
            try:
                return self._merged(
                    state["segments"] if snapshot is None else state["snapshots"][snapshot], columns
                )
            except FileNotFoundError:  # vacuum was faster: a newer state names what is there
                if not left:
                    raise
        raise AssertionError

    # -- the door -----------------------------------------------------------------------------------

    def create(self, rows: pa.Table) -> None:
        self.put(rows)

    def put(self, rows: pa.Table, *, new: bool = True) -> None:
        self._append(rows.append_column(_GONE, pa.repeat(pa.scalar(False), len(rows))))

    def delete(self, keys: list[str]) -> None:
        self._append(pa.table({KEY: keys, _GONE: [True] * len(keys)}))

    def _append(self, rows: pa.Table) -> None:
        self._commit(lambda base, s: {**s, "segments": [*s["segments"], self._write(base, rows)]})

    def snapshot(self, name: str) -> None:
        self._commit(lambda _, s: {**s, "snapshots": {**s["snapshots"], name: s["segments"]}})

    def read(self, snapshot: str | None = None) -> pa.Table:
        return self._show(snapshot, None)

    def count(self) -> int:
        return len(self._show(None, []))

    def at_least(self, column: str, low: float) -> int:
        return int(pc.sum(pc.greater_equal(self._show(None, [column])[column], low)).as_py())

    def compact(self) -> None:
        def change(base: int, state: State) -> State:
            rows = self._merged(state["segments"])
            whole = rows.append_column(_GONE, pa.repeat(pa.scalar(False), len(rows)))
            return {**state, "segments": [self._write(base, whole)]}

        self._commit(change)

    def vacuum(self) -> None:
        # Manifests stay: a writer that slept for days must find its number taken.
        number, state = self._newest()
        named = {name for part in (state["segments"], *state["snapshots"].values()) for name, _ in part}
        for name in self._files.names("rows"):
            if f"rows/{name}" not in named and int(name.split("-")[0]) < number:
                self._files.remove(f"rows/{name}")
        for name in self._files.names("log"):
            if "~" in name and int(name.split(".")[0]) <= number:
                self._files.remove(f"log/{name}")

    def forget(self, subject: str) -> None:
        def change(base: int, state: State) -> State | None:
            new: dict[str, Segment | None] = {}
            for segment in {
                tuple(s) for part in (state["segments"], *state["snapshots"].values()) for s in part
            }:
                rows = self._open(segment)
                keys = rows[KEY] if SUBJECT not in rows.column_names else rows[SUBJECT]
                theirs = pc.or_(pc.equal(keys, subject), pc.starts_with(rows[KEY], f"{subject}_"))
                if pc.any(pc.fill_null(theirs, False)).as_py():
                    left = rows.filter(
                        pc.invert(pc.fill_null(theirs, pc.starts_with(rows[KEY], f"{subject}_")))
                    )
                    new[segment[0]] = self._write(base, left) if len(left) else None
            if not new:
                return None

            def renewed(part: list[Segment]) -> list[Segment]:
                return [found for s in part if (found := new.get(s[0], s)) is not None]

            return {
                "segments": renewed(state["segments"]),
                "snapshots": {name: renewed(part) for name, part in state["snapshots"].items()},
            }

        self._commit(change)
        self._commit(lambda _, state: dict(state))  # left-overs of the base just seen become old, and go
        self.vacuum()


class ArrowSegments(Segments):
    """The same with Arrow IPC files."""

    kind = "arrow"
