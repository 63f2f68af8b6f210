"""Columns of a table, added and dropped by many writers at once without one undoing the other.

TileDB derives a new schema from the newest one that it sees. Of two writers at once, each with a column of
its own, the later schema lacks the column of the earlier, and rows that were written with it lose it from
sight. So on local disks one writer goes after another: the table's folder is locked, and the system takes
the lock back from a writer that dies. S3 has no locks. There, and where a file system knows none, a writer
that published a schema looks again, and goes on until the newest schema has what any schema had: of two
writers the one that looks last sees both.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import tiledb
from blake3 import blake3

from radiobject_assets.errors import StorageError
from radiobject_assets.store.columns import Column, parse_attribute, table_filters
from radiobject_assets.store.context import ctx_for_small_objects
from radiobject_assets.store.deadline import DeadlineError, on_storage, storage_errors
from radiobject_assets.store.scratch import publish, scratch
from radiobject_assets.store.uris import join, list_names, local_path, new_token

_ATTEMPTS = 50
# A writer that was stopped while it held the lock must not stop all others; they are safe without it.
_LOCK_S = 20.0
_NAME = re.compile(r"__(\d+)_\d+_[0-9a-f]+")

DROPPED = "__dropped"
"""Folder of a table with one empty file for each dropped column: `<moment in ms>_<hash of its name>`."""

_known: dict[tuple[str, str], tuple[str, ...]] = {}


UNFINISHED = "__new_"
"""What the names of folders begin with in which something is made; `vacuum` removes those of the dead."""


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A place on the same disk to make something that a rename then moves to `folder`; removed afterwards."""
    aside = folder.with_name(f"{UNFINISHED}{new_token()}")
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Let no other process into this block for the same local folder; on S3 there is nothing to wait for."""
    folder = local_path(uri)
    if folder is None:
        yield
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"cannot lock {uri}: {error.strerror}") from error
    try:
        _lock(opened)
        yield
    finally:
        os.close(opened)


def _lock(opened: int) -> None:
    until = time.monotonic() + _LOCK_S
    while time.monotonic() < until:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.005)
        except OSError:  # a file system without locks
            return
        else:
            return


def schema_names(uri: str, ctx: tiledb.Ctx) -> list[str]:
    """Names of all schemas that a table has had, oldest first: TileDB takes the last."""
    return [name for name in list_names(join(uri, "__schema"), ctx) if _NAME.fullmatch(name)]


def evolve(
    uri: str,
    ctx: tiledb.Ctx,
    core: Mapping[str, Column],
    add: Iterable[Column] = (),
    drop: Iterable[str] = (),
) -> None:
    """Give the table the columns `add`, and those that any writer ever added; take the attributes `drop`.

    With nothing to add or drop it repairs: columns that a writer hid, who died before it could look again,
    come back.

    Raises
    ------
    StorageError
        If storage fails, or other writers keep changing the columns.
    """
    added, dropped, known = {column.attribute: column for column in add}, set(drop), dict(core)
    for _ in range(_ATTEMPTS):
        with one_at_a_time(uri):
            names = schema_names(uri, ctx)
            if not names:
                raise StorageError(f"{uri} has no schema: it is not a table")
            latest = _attributes(uri, names[-1], ctx)
            wanted = {a: parse_attribute(a, known) for a in _ever_added(uri, names, ctx)} | added
            missing = [c for name, c in wanted.items() if name not in latest and name not in dropped]
            gone = [name for name in latest if name in dropped]
            if not missing and not gone:
                return
            # Not before the newest: a writer whose clock is behind would publish what nobody takes.
            stamp = max(time.time_ns() // 1_000_000, _stamp(names[-1]) + 1)
            _mark_dropped(uri, gone, stamp, ctx)
            try:
                made = _publish(uri, ctx, names[-1], missing, gone, stamp)
                kept = [name for name in latest if name not in dropped]
                for name in made:
                    remember_schema(uri, name, [*kept, *(column.attribute for column in missing)])
            except DeadlineError:
                raise
            except StorageError:
                if schema_names(uri, ctx) == names:  # else another writer was first with the same
                    raise
    raise StorageError(f"columns of {uri} keep changing under this writer; try again")


def _stamp(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


def remember_schema(uri: str, name: str, attributes: Iterable[str]) -> None:
    """Note what attributes a schema has, which never changes: so it is read once in a process at most."""
    if len(_known) > 10_000:
        _known.clear()
    _known[uri, name] = tuple(attributes)


def _attributes(uri: str, name: str, ctx: tiledb.Ctx) -> tuple[str, ...]:
    found = _known.get((uri, name))
    if found is None:
        found = _read_attributes(join(uri, "__schema", name), name, ctx)
        remember_schema(uri, name, found)
    return found


def _read_attributes(path: str, name: str, ctx: tiledb.Ctx) -> tuple[str, ...]:
    # TileDB loads the newest schema of an array only, so this one becomes the only one of an array.
    vfs = tiledb.VFS(ctx=ctx)

    def content() -> bytes:
        with vfs.open(path, "rb") as file:
            return bytes(file.read())

    found = on_storage("read the schema", path, ctx, content)
    with storage_errors("read the schema", path), scratch() as folder:
        Path(folder, "__schema").mkdir()
        Path(folder, "__schema", name).write_bytes(found)
        schema = tiledb.ArraySchema.load(str(folder), ctx=ctx)
        return tuple(schema.attr(i).name for i in range(schema.nattr))


def _ever_added(uri: str, names: Sequence[str], ctx: tiledb.Ctx) -> dict[str, None]:
    """Attributes of all schemas but for those that were dropped afterwards, in order of their creation."""
    dropped: dict[str, int] = {}
    for entry in list_names(join(uri, DROPPED), ctx):
        moment, _, mark = entry.partition("_")
        if moment.isdigit():
            dropped[mark] = max(int(moment), dropped.get(mark, 0))
    found: dict[str, None] = {}
    for name in names:
        for attribute in _attributes(uri, name, ctx):
            if not dropped or _stamp(name) > dropped.get(_mark(attribute), 0):
                found[attribute] = None
    return found


def _mark(attribute: str) -> str:
    return str(blake3(attribute.encode()).hexdigest(16))


def _mark_dropped(uri: str, attributes: Iterable[str], stamp: int, ctx: tiledb.Ctx) -> None:
    vfs, folder = tiledb.VFS(ctx=ctx), join(uri, DROPPED)
    for attribute in attributes:
        on_storage("note a dropped column of", uri, ctx, partial(vfs.create_dir, folder))
        touch = partial(vfs.touch, join(folder, f"{stamp}_{_mark(attribute)}"))
        on_storage("note a dropped column of", uri, ctx, touch)


def _publish(
    uri: str, ctx: tiledb.Ctx, base: str, add: Sequence[Column], drop: Sequence[str], stamp: int
) -> list[str]:
    """Publish a schema that differs from `base`; its name, where the disk is local."""
    evolution = tiledb.ArraySchemaEvolution(ctx_for_small_objects(ctx, uri, 0))
    filters = table_filters(ctx)
    for column in add:
        evolution.add_attribute(column.to_attr(ctx, filters))
    for attribute in drop:
        evolution.drop_attribute(attribute)
    evolution.timestamp(stamp)
    folder = local_path(uri)
    if folder is None:
        on_storage("change the columns of", uri, ctx, partial(evolution.array_evolve, uri), holds_lock=True)
        return []
    with storage_errors("change the columns of", uri), scratch() as aside:
        schemas = aside / "__schema"
        schemas.mkdir()
        shutil.copy(folder / "__schema" / base, schemas / base)
        evolution.array_evolve(str(aside))
        made = [schema for schema in schemas.iterdir() if schema.is_file() and schema.name != base]
        for schema in made:
            publish(folder, f"__schema/{schema.name}", schema.read_bytes())
        return [schema.name for schema in made]
