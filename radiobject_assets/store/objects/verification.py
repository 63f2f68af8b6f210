"""Whether what is stored is what was written: rows against arrays, voxels against their digests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import tiledb

from radiobject_assets.errors import AlignmentError, RadiObjectError, StorageError
from radiobject_assets.store.arrays.handles import open_array
from radiobject_assets.store.arrays.tile_cache import forget_array
from radiobject_assets.store.arrays.tiledb_array import read_meta
from radiobject_assets.store.arrays.voxel_verification import file_problem
from radiobject_assets.store.legacy.radiobject_array import read_only
from radiobject_assets.store.legacy.radiobject_format import take_inventory
from radiobject_assets.store.log.log_verification import segment_problem
from radiobject_assets.store.objects.chosen_store import ChosenStore
from radiobject_assets.store.objects.chosen_volumes import ChosenVolumes
from radiobject_assets.store.objects.volume import Volume
from radiobject_assets.store.storage import DeadlineError
from radiobject_assets.store.storage.uris import last_part, object_kind


@dataclass(frozen=True)
class VolumeProblem:
    """Something wrong with one volume."""

    token: str
    """Name of the array, or path of the file; ids may name patients and are not repeated here."""
    code: str
    """Of a file `copy`, `manifest`, `segment` or `list`; of an array `missing`, `unreadable`, `files`,
    `digest`, `index`, `id`, `shape` or `dtype`."""
    detail: str

    def __str__(self) -> str:
        what = "" if self.code in ("copy", "manifest", "segment", "list") else "volume "
        return f"{what}{self.token}: {self.code}: {self.detail}"


def check_rows(collection: ChosenVolumes) -> list[VolumeProblem]:
    """Compare each row with the array that it names: there, and of the same id, shape and dtype."""
    problems: list[VolumeProblem] = []
    ctx = collection.ctx.get()
    for volume in collection:
        token = last_part(volume.uri)
        forget_array(volume.uri)
        try:
            if object_kind(volume.uri, ctx) != "array":
                problems.append(VolumeProblem(token, "missing", "the row names an array that is not there"))
                continue
            damaged = file_problem(volume.uri, ctx)
            if damaged is not None:
                problems.append(VolumeProblem(token, "files", damaged))
                continue
            with open_array(volume.uri, ctx, voxels=False) as array:
                meta = read_meta(array)
                domain = array.schema.domain
                shape = tuple(int(domain.dim(i).size) for i in range(domain.ndim))
        except DeadlineError:
            raise  # of the storage, not of the volume
        except (RadiObjectError, tiledb.TileDBError, ValueError) as error:
            problems.append(VolumeProblem(token, "unreadable", str(error)))
            continue
        if meta.get("obs_id") != volume.obs_id:
            problems.append(VolumeProblem(token, "id", "the array belongs to another obs_id"))
        if shape != volume.shape:
            problems.append(
                VolumeProblem(token, "shape", f"the array is {shape}, the row says {volume.shape}")
            )
        if meta.get("dtype") != volume.stored_dtype.name:
            problems.append(
                VolumeProblem(token, "dtype", f"{meta.get('dtype')} in place of {volume.stored_dtype}")
            )
    return problems


def verify_volume(volume: Volume) -> VolumeProblem | None:
    """Compare all voxels with their recorded digest, and the tile index with them; None if they agree."""
    token = last_part(volume.uri)
    try:
        found = volume.find_damage()
    except DeadlineError:
        raise
    except (RadiObjectError, tiledb.TileDBError, ValueError) as error:
        return VolumeProblem(token, "unreadable", str(error))
    return None if found is None else VolumeProblem(token, *found)


def verify_collection(collection: ChosenVolumes) -> list[VolumeProblem]:
    """`check_rows`, ids that two subjects share, and the digest of every volume's voxels.

    Raises
    ------
    StorageError
        If the table of rows is damaged, or the RadiObject package wrote the collection: it recorded nothing
        to compare with.
    """
    if collection.rows.is_radiobjects:
        raise read_only(collection.uri, "find digests of voxels in")
    picture, name = collection.rows.all.picture, collection.rows.all.table.name
    for segment in picture.state.table(name).segments:
        wrong = segment_problem(picture.log.storage, name, segment)
        if wrong is not None:
            raise StorageError(f"{picture.log.uri}/{name}/{segment.name} is damaged: {wrong}")
    return [*shared_ids(collection), *volume_problems(collection, set())]


def volume_problems(collection: ChosenVolumes, seen: set[str]) -> list[VolumeProblem]:
    """`check_rows` and digests of the volumes whose arrays were not `seen` yet; they are then."""
    problems = [problem for problem in check_rows(collection) if problem.token not in seen]
    damaged = {problem.token for problem in problems}
    for volume in collection:
        token = last_part(volume.uri)
        if token not in damaged and token not in seen:
            found = verify_volume(volume)
            if found is not None:
                problems.append(found)
        seen.add(token)
    return problems


def shared_ids(collection: ChosenVolumes) -> list[VolumeProblem]:
    """The volumes whose obs_id another subject's volume has as well.

    Two writers at once can commit such rows; a commit doesn't look for them, since reading all ids would
    make it dearer with every volume.
    """
    ids = collection.ids
    counts = Counter(ids)
    detail = "its obs_id belongs to more than one subject: delete or rename one of them"
    if len(counts) == len(ids):
        return []
    return [
        VolumeProblem(last_part(volume.uri), "id", detail)
        for volume, obs_id in zip(collection, ids, strict=True)
        if counts[obs_id] > 1
    ]


def validate_collection(collection: ChosenVolumes) -> None:
    """Check that rows and arrays match; reads no voxels.

    Raises
    ------
    StorageError
        Naming the volumes whose array is missing or says something else than its row.
    AlignmentError
        If an id belongs to two subjects.
    """
    name = collection.name
    if len(set(collection.ids)) != len(collection):
        raise AlignmentError(f"collection {name!r} has ids that belong to more than one subject")
    if collection.rows.is_radiobjects:
        lost = len(take_inventory(collection.uri, collection.ctx.get()).without_array)
        problems = [f"{lost} row(s) whose obs_id no array carries"] if lost else []
    else:
        problems = [str(problem) for problem in check_rows(collection)]
    if problems:
        shown = "; ".join(problems[:5])
        raise StorageError(f"collection {name!r} has {len(problems)} problem(s): {shown}")


def validate_store(store: ChosenStore) -> None:
    """`validate_collection` for each, and that all volumes are of subjects that there are.

    Raises
    ------
    AlignmentError
        If a volume belongs to a subject that obs_meta does not have.
    """
    subjects = set(store.subjects.subjects)
    for name in store.names:
        collection = store.collection(name)
        strangers = set(collection.rows.subjects) - subjects
        if strangers:
            raise AlignmentError(
                f"collection {name!r} has volumes of {len(strangers)} subject(s) that obs_meta lacks"
            )
        validate_collection(collection)
