"""Writing volumes in two steps: arrays first, under new tokens; then one commit that makes them exist.

    stage_volume    array written whole, nothing visible yet (any process, in parallel)
    commit_volumes  one atomic commit of obs rows names the arrays

A process that is killed in between leaves orphaned arrays, which no row names: readers never see them, and
`vacuum` removes them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import tiledb
from numpy.typing import NDArray

from radiobject_assets.errors import AlignmentError, SchemaError, ShapeError, StorageError
from radiobject_assets.store.arrays.affine import validate_affine
from radiobject_assets.store.arrays.voxels import native_dtype, validate_shape
from radiobject_assets.store.arrays.writing import ArrayPlan, write_array
from radiobject_assets.store.format.forgotten import ForgottenSubjects, forgotten_in
from radiobject_assets.store.format.layout import FORMAT_VERSION, OBS_CORE, VOLUME_FORMAT, Context, reference
from radiobject_assets.store.format.obs_rows import TEXT_ATTRIBUTES, obs_rows
from radiobject_assets.store.format.obs_table import obs_table
from radiobject_assets.store.format.staged_volume import Attribute as Attribute, StagedVolume as StagedVolume
from radiobject_assets.store.format.subject_rows import add_subjects
from radiobject_assets.store.log.columns import validate_column_name, validate_id
from radiobject_assets.store.log.commit_log import NoLogError
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.log.vacuuming import revoked_tokens
from radiobject_assets.store.names import OBS_ID, SUBJECT, VOLUMES
from radiobject_assets.store.storage import open_storage
from radiobject_assets.store.storage.config import MB, CompressionConfig, TileConfig, get_radiobject_config
from radiobject_assets.store.storage.context import ctx_for_threads
from radiobject_assets.store.storage.uris import join, new_token, normalise

_log = logging.getLogger(__name__)

COMPUTED = frozenset(OBS_CORE) - set(TEXT_ATTRIBUTES)


def stage_volume(
    collection_uri: str,
    *,
    obs_id: str,
    obs_subject_id: str,
    shape: Sequence[int] | None = None,
    dtype: np.dtype[Any] | type[Any] | str | None = None,
    affine: NDArray[np.float64] | None = None,
    slabs: Iterable[tuple[int, int, NDArray[Any]]] | None = None,
    voxels: NDArray[Any] | None = None,
    slope: float = 1.0,
    intercept: float = 0.0,
    attributes: Mapping[str, Attribute] | None = None,
    sources: Sequence[str] = (),
    orientation_source: str | None = None,
    tile: TileConfig | None = None,
    compression: CompressionConfig | None = None,
    ctx: tiledb.Ctx | None = None,
    buffer_bytes: int | None = None,
) -> StagedVolume:
    """Write the voxels of one volume under a new token; nothing is visible until `commit_volumes`.

    Parameters
    ----------
    shape, dtype
        (X, Y, Z) or (X, Y, Z, T) and the stored dtype; taken from `voxels` where those are given.
    affine
        4x4, voxel index to RAS+ millimetres; None for the identity with an orientation marked as assumed.
    slabs
        `(z, t, voxels)` with voxels (X, Y, depth) in any memory order: time outer, slices in order, each
        once. Fortran order is written without a copy.
    voxels
        The whole array instead of `slabs`.
    slope, intercept
        Physical value = stored value * slope + intercept.
    attributes
        Columns of the obs row. Those the format knows (kind, modality, series_uid, study_uid, component,
        arrival, source_digest, labels_of_collection, labels_of) and any others.
    sources
        SOPInstanceUIDs (or other names) of what the volume was made from, kept with the array.
    buffer_bytes
        Bound of the write buffer, by default a quarter of the read budget, at most 256 MiB.

    Raises
    ------
    ShapeError
        If the slabs do not make up `shape`; the partly written array is removed.
    SchemaError
        For voxel types, ids or attributes that cannot be stored.
    StorageError
        If storage fails.
    """
    collection_uri, ctx = normalise(collection_uri), ctx_for_threads(ctx)
    if (slabs is None) == (voxels is None):
        raise ShapeError("stage_volume: give either `slabs` or `voxels`")
    config = get_radiobject_config()
    if voxels is not None:
        voxels = np.asarray(voxels)
        shape, dtype = voxels.shape, dtype or voxels.dtype
        slabs = whole_volume_slabs(voxels)
    if shape is None or dtype is None or slabs is None:
        raise ShapeError("stage_volume: slabs need `shape` and `dtype`")
    sizes, kind = validate_shape(shape), native_dtype(dtype)
    source = orientation_source or ("identity" if affine is None else "header")
    matrix = validate_affine(np.eye(4) if affine is None else affine)
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise SchemaError(
            f"rescale slope {slope} and intercept {intercept} must be finite and the slope not 0"
        )
    checked = _check_attributes(attributes or {})
    token = new_token()
    staged = StagedVolume(
        token=token,
        obs_id=validate_id(obs_id, "obs_id"),
        obs_subject_id=validate_id(obs_subject_id, "obs_subject_id"),
        shape=sizes,
        dtype=kind.name,
        affine=tuple(tuple(float(value) for value in row) for row in matrix[:3]),
        slope=float(slope),
        intercept=float(intercept),
        orientation_source=source,
        voxel_digest="",
        voxel_bytes=math.prod(sizes) * kind.itemsize,
        stored_bytes=0,
        attributes=checked,
    )
    uri = join(collection_uri, VOLUMES, token)
    limit = buffer_bytes or min(256 * MB, config.read.memory_budget_mb * MB // 4)
    return write_volume_array(
        uri,
        staged,
        slabs,
        tile or config.write.tile,
        compression or config.write.compression,
        limit,
        ctx,
        sources,
    )


def write_volume_array(
    uri: str,
    staged: StagedVolume,
    slabs: Iterable[tuple[int, int, NDArray[Any]]],
    tile: TileConfig,
    compression: CompressionConfig,
    buffer_bytes: int,
    ctx: tiledb.Ctx,
    sources: Sequence[str] = (),
) -> StagedVolume:
    """Create the array at `uri`, write all slabs, and return `staged` with digest and size.

    The array is removed if anything goes wrong, the caller's interruption included.
    """

    def description(voxel_digest: str) -> dict[str, Any]:
        whole = replace(staged, voxel_digest=voxel_digest)
        return {**array_description(whole, tile), "sources": list(sources)}

    kind = np.dtype(staged.dtype)
    plan = ArrayPlan(
        staged.shape,
        kind,
        tile,
        compression,
        buffer_bytes,
        get_radiobject_config().read.concurrency,
        description,
    )
    written = write_array(uri, plan, slabs, ctx, fresh=bool(staged.token))
    return replace(
        staged,
        voxel_digest=written.voxel_digest,
        stored_bytes=written.stored_bytes,
        index_digest=written.index_digest,
    )


# Of the header of a NIfTI file that a volume was read from: what an export writes again.
NIFTI_HEADER = (
    "sform_code", "qform_code", "time_step_s", "xyzt_units", "nifti_description", "nifti_extensions",
    "nifti_intent_code", "nifti_intent_parameters", "nifti_fifth_axis", "components", "nifti_version",
    "nifti_other_place", "nifti_steps",
)  # fmt: skip


def array_description(staged: StagedVolume, tile: TileConfig) -> dict[str, Any]:
    """What an array says of itself, so that it can be read without its obs row."""
    return {
        "format": VOLUME_FORMAT,
        "format_version": FORMAT_VERSION,
        "obs_id": staged.obs_id,
        "obs_subject_id": staged.obs_subject_id,
        "dtype": staged.dtype,
        "affine": [list(row) for row in staged.affine],
        "slope": staged.slope,
        "intercept": staged.intercept,
        "orientation_source": staged.orientation_source,
        "tile_orientation": tile.orientation.value,
        "voxel_digest": staged.voxel_digest,
        "kind": staged.attributes.get("kind") or "image",
        "nifti": {name: staged.attributes[name] for name in NIFTI_HEADER if name in staged.attributes},
    }


def whole_volume_slabs(voxels: NDArray[Any]) -> Iterable[tuple[int, int, NDArray[Any]]]:
    """A whole array (X, Y, Z[, T]) as the slabs that `stage_volume` takes, without a copy."""
    if voxels.ndim == 4:
        for t in range(voxels.shape[3]):
            yield 0, t, voxels[:, :, :, t]
    else:
        yield 0, 0, voxels


def _check_attributes(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    checked: dict[str, Attribute] = {}
    for name, value in attributes.items():
        if name in (SUBJECT, OBS_ID) or name in COMPUTED:
            raise SchemaError(f"attribute {name!r} is kept by the store itself: use another name")
        if name not in TEXT_ATTRIBUTES:
            validate_column_name(name)
        if isinstance(value, np.generic):
            value = value.item()
        if value is not None and not isinstance(value, (str, int, float, bool)):
            raise SchemaError(
                f"attribute {name!r} is a {type(value).__name__}: use text, a number or a boolean"
            )
        if name in TEXT_ATTRIBUTES and value is not None:
            value = str(value)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = float(value)
        checked[name] = value
    return checked


def commit_volumes(
    collection_uri: str,
    staged: Sequence[StagedVolume],
    ctx: Context = None,
    *,
    with_subjects: bool = False,
    refuse_forgotten: bool = False,
) -> list[StagedVolume]:
    """Make staged volumes exist: their rows appear together, in one commit.

    A row with the same obs_subject_id and obs_id is replaced. Either all of the rows are seen or none.

    Parameters
    ----------
    with_subjects
        Whether the commit also adds those of their subjects that obs_meta lacks; for a collection of a store.
    refuse_forgotten
        Leave out volumes of subjects who were forgotten, as the state says that the commit follows: also of
        those who were forgotten after the volume was staged.

    Returns
    -------
    The volumes that were left out. Their arrays are the caller's to remove (`discard_staged`).

    Raises
    ------
    AlignmentError
        If two of the volumes have the same obs_id, or one has that of another subject's volume.
    StorageError
        If voxels of one of them were removed meanwhile, by `delete_subjects` or `vacuum`.
    """
    if not staged:
        return []
    rows = obs_rows(staged)
    refused: list[StagedVolume] = []

    def put(draft: Draft, name: str) -> None:
        forgotten = forgotten_in(draft.state) if refuse_forgotten else ForgottenSubjects(b"")
        refused[:] = [one for one in staged if forgotten.refuses(one.obs_subject_id)]
        kept = [one for one in staged if not forgotten.refuses(one.obs_subject_id)]
        if kept:
            add_subjects(draft, sorted({one.obs_subject_id for one in kept}) if with_subjects else [])
            put_volumes(draft, name, kept, None if refused else rows)

    obs_table(collection_uri, ctx).commit("put volumes", put)
    return refused


def put_volumes(
    draft: Draft, table: str, staged: Sequence[StagedVolume], rows: pa.Table | None = None
) -> None:
    """Put the rows of staged volumes in a draft; see `commit_volumes`."""
    ids = [volume.obs_id for volume in staged]
    if len(set(ids)) != len(ids):
        raise AlignmentError(f"{len(ids) - len(set(ids))} obs_id(s) occur twice in one commit")
    gone = revoked_tokens(draft.storage, draft.state) & {volume.token for volume in staged}
    if gone:
        raise StorageError(
            f"{len(gone)} of {len(staged)} volumes that were about to be committed are not there any more: "
            "their subjects were deleted, or `vacuum` took them for left-overs; nothing was committed, write "
            "them again"
        )
    owners = {volume.obs_id: volume for volume in staged}
    held = read_table(draft.storage, table, draft.state.table(table), ["volume"], [None, ids])
    for row in held.to_pylist():
        volume = owners[row[OBS_ID]]
        if row[SUBJECT] != volume.obs_subject_id:
            # Ids may name patients: the arrays are named in their place.
            raise AlignmentError(
                f"the obs_id of volume {volume.token} belongs to another subject's volume {row['volume']}: "
                "nothing was committed"
            )
    draft.put(table, obs_rows(staged) if rows is None else rows)


def discard_staged(collection_uri: str, staged: Sequence[StagedVolume], ctx: Context = None) -> None:
    """Remove the arrays of volumes that will not be committed.

    Those that rows name stay: who is interrupted just after a commit can't tell that it was made. Where that
    can't be looked up all stay, for `vacuum`.
    """
    where = normalise(collection_uri)
    try:
        rows = obs_table(where, ctx).read(["volume"])
    except NoLogError:
        named = set()
    except StorageError:
        return
    else:
        named = set(rows.column("volume").to_pylist())
    storage = open_storage(where, reference(ctx))
    for volume in staged:
        if volume.token not in named:
            storage.remove_tree(f"{VOLUMES}/{volume.token}")
