"""Stores from image files: what the user names, found, detected, staged, and committed together."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tiledb

from radiobject_assets.errors import AlignmentError, IngestError, StorageError
from radiobject_assets.store.format.layout import (
    STORE_FORMAT,
    add_collection,
    check_format,
    columns_of,
    directory_for,
    store_log,
)
from radiobject_assets.store.format.staging import StagedVolume, discard_staged, put_volumes
from radiobject_assets.store.format.subject_rows import add_subjects, subjects_table
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.names import COLLECTIONS, OBS, OBS_META, SUBJECT
from radiobject_assets.store.objects.image_batches import ImageBatch, stage_images
from radiobject_assets.store.objects.images import series_type
from radiobject_assets.store.objects.making import making_store
from radiobject_assets.store.storage import DeadlineError
from radiobject_assets.store.storage.uris import join, validate_collection_name
from radiobject_assets.store.tables.dataframe_rows import ensure_obs_columns, update_rows

Pairs = Sequence[tuple[str | Path, str]]
Images = str | os.PathLike[str] | Pairs
Found = list[tuple[Path, str]]
# Volumes in files of their own: the reader of NIfTI opens the others too.
_VOLUME_FILES = (
    ".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh", ".nrrd", ".nhdr", ".mha", ".mhd",
)  # fmt: skip


def resolve_images(images: Images, name: str = "images") -> Found:
    """`[(path, subject_id), ...]` of a glob, a directory or such a list.

    The subject of a NIfTI file is its name without suffix, that of a DICOM directory its name.

    Raises
    ------
    IngestError
        If nothing is there.
    """
    if not isinstance(images, (str, os.PathLike)):
        pairs = [(Path(path), str(subject)) for path, subject in images]
        if not pairs:
            raise ValueError(f"collection {name!r}: no images were given")
        return pairs
    text = os.fspath(images)
    if glob.has_magic(text):
        paths = sorted(Path(found) for found in glob.glob(text, recursive=True))
    else:
        folder = Path(text)
        if not folder.exists():
            raise FileNotFoundError(f"collection {name!r}: {folder} does not exist")
        paths = [folder] if folder.is_file() else _inside(folder)
    if not paths:
        raise IngestError(f"collection {name!r}: no images match {text}")
    return [(path, _subject_of(path)) for path in paths]


def _inside(folder: Path) -> list[Path]:
    niftis = sorted(p for p in folder.iterdir() if p.name.endswith((".nii", ".nii.gz")))
    if niftis:
        return niftis
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _subject_of(path: Path) -> str:
    name = path.name
    for suffix in (".nii.gz", ".nii", ".dcm"):
        name = name.removesuffix(suffix)
    return name


def detect_kind(name: str, pairs: Found, hint: Mapping[str, str] | None) -> str:
    """`nifti` or `dicom`, from the hint or from what the paths are.

    Raises
    ------
    ValueError
        If the collection mixes both, or the hint is neither.
    """
    hinted = (hint or {}).get(name)
    if hinted is not None:
        if hinted not in ("nifti", "dicom"):
            raise ValueError(f"format_hint for {name!r} is {hinted!r}: use 'nifti' or 'dicom'")
        return hinted
    kinds = {"nifti" if p.name.lower().endswith(_VOLUME_FILES) else "dicom" for p, _ in pairs}
    if len(kinds) > 1:
        raise ValueError(f"collection {name!r} mixes NIfTI and DICOM: make two collections")
    return kinds.pop()


def nifti_images(
    images: Mapping[str, Images] | None,
    niftis: Sequence[tuple[str | Path, str]] | None,
    image_dir: str | os.PathLike[str] | None,
    collection_name: str | None,
) -> Mapping[str, Images]:
    """The images of each collection, out of the ways in which `RadiObject.from_niftis` takes them.

    Raises
    ------
    ValueError
        If they are given in none of these ways, or in two.
    """
    if images is not None:
        if niftis is not None or image_dir is not None or collection_name is not None:
            raise ValueError("Cannot use 'images' with legacy parameters: name the collections in `images`")
        return images
    if niftis is None and image_dir is None:
        raise ValueError("Must specify 'images', 'niftis', or 'image_dir'")
    if niftis is not None and image_dir is not None:
        raise ValueError("Cannot specify both 'niftis' and 'image_dir'")
    if niftis is not None and not len(niftis):
        raise ValueError("No NIfTI files found: `niftis` is empty")
    pairs = resolve_images(niftis if niftis is not None else image_dir or "")
    return {collection_name: pairs} if collection_name else by_series_type(pairs, "nifti")


def one_source(
    images: Mapping[str, Images] | None,
    niftis: Sequence[tuple[str | Path, str]] | None,
    dicom_dirs: Sequence[tuple[str | Path, str]] | None,
    format_hint: Mapping[str, str] | None,
) -> tuple[Mapping[str, Images], Mapping[str, str] | None]:
    """The images of each collection with hints of their format, out of the one argument that is given."""
    given = [kind for kind in (images, niftis, dicom_dirs) if kind is not None]
    if not given:
        raise ValueError("Must provide images, niftis or dicom_dirs")
    if len(given) > 1:
        raise ValueError("Cannot provide both: give one of images, niftis and dicom_dirs")
    if images is not None:
        return images, format_hint
    kind = "nifti" if niftis is not None else "dicom"
    named = by_series_type(resolve_images(niftis or dicom_dirs or []), kind)
    return named, dict.fromkeys(named, kind)


def by_series_type(pairs: Found, kind: str) -> dict[str, Found]:
    """Images put together by what kind of image each is: `T1w`, `CT`."""
    groups: dict[str, Found] = {}
    for path, subject in pairs:
        groups.setdefault(series_type(path, kind), []).append((path, subject))
    return groups


def create_store(uri: str, schema: Mapping[str, Any], ctx: tiledb.Ctx) -> None:
    """A new, empty store with columns of obs_meta.

    Raises
    ------
    StorageError
        If something is at `uri` already.
    """
    with making_store(uri, ctx) as made:
        made.subject_columns(schema)


def add_subject_columns(uri: str, schema: Mapping[str, Any], ctx: tiledb.Ctx) -> None:
    """Add the columns `schema` (name to dtype) to obs_meta; those that are there stay."""
    subjects_table(uri, ctx).add_columns(columns_of(schema))


def _frame(obs_meta: pd.DataFrame | None) -> pd.DataFrame | None:
    if obs_meta is None:
        return None
    frame = obs_meta if SUBJECT in obs_meta.columns else obs_meta.reset_index()
    return ensure_obs_columns(frame, context="obs_meta")


def create_store_from_images(
    uri: str,
    images: Mapping[str, Images],
    validate_alignment: bool,
    obs_meta: pd.DataFrame | None,
    reorient: bool | None,
    format_hint: Mapping[str, str] | None,
    ctx: tiledb.Ctx,
    progress: bool = False,
) -> None:
    """A new store at `uri`; nothing is left there after an error.

    Raises
    ------
    AlignmentError
        If images belong to subjects that `obs_meta` lacks, or (`validate_alignment`) the collections have
        different subjects.
    """
    if not images:
        raise ValueError("from_images(): the images dict cannot be empty: name at least one collection")
    pairs = {validate_collection_name(name): resolve_images(value, name) for name, value in images.items()}
    kinds = {name: detect_kind(name, found, format_hint) for name, found in pairs.items()}
    subjects = {name: {subject for _, subject in found} for name, found in pairs.items()}
    everyone = sorted(set().union(*subjects.values()))
    if validate_alignment and any(found != set(everyone) for found in subjects.values()):
        counts = ", ".join(f"{name}: {len(found)}" for name, found in subjects.items())
        raise AlignmentError(
            f"Subject ID mismatch: the collections have different subjects ({counts} of {len(everyone)})"
        )
    frame = _frame(obs_meta)
    if frame is not None:
        missing = set(everyone) - set(map(str, frame[SUBJECT]))
        if missing:
            raise AlignmentError(f"{len(missing)} obs_subject_ids of images not found in obs_meta")
    with making_store(uri, ctx) as made:
        made.subjects(frame, everyone)
        for name, found in pairs.items():
            target = made.collection(name)
            batch = ImageBatch(kinds[name], found, reorient=reorient)
            made.put_in(name, stage_images(target, name, batch, ctx, progress))


def append_to_store(
    uri: str,
    images: Mapping[str, Images],
    obs_meta: pd.DataFrame | None,
    reorient: bool | None,
    format_hint: Mapping[str, str] | None,
    ctx: tiledb.Ctx,
    progress: bool = False,
) -> None:
    """Add images to a store: all arrays are written before the first row appears.

    Collections and metadata columns that the store lacks are made. Without `obs_meta` new subjects get a row
    with missing values.

    Raises
    ------
    AlignmentError
        If `obs_meta` is given and lacks new subjects.
    """
    if not images:
        raise ValueError("append(): the images dict cannot be empty: name at least one collection")
    pairs = {validate_collection_name(name): resolve_images(value, name) for name, value in images.items()}
    kinds = {name: detect_kind(name, found, format_hint) for name, found in pairs.items()}
    frame = _frame(obs_meta)
    if frame is not None:
        described = {
            *map(str, frame[SUBJECT]),
            *subjects_table(uri, ctx).read([])[SUBJECT].to_pylist(),
        }
        missing = {subject for found in pairs.values() for _, subject in found} - described
        if missing:
            raise AlignmentError(f"obs_meta is missing entries for {len(missing)} new subject(s)")
    staged: list[tuple[str, str, list[StagedVolume]]] = []
    everyone = sorted({subject for found in pairs.values() for _, subject in found})
    state = check_format(uri, ctx, STORE_FORMAT)

    def append(draft: Draft) -> None:
        if frame is not None:
            update_rows(draft, OBS_META, frame)
        add_subjects(draft, everyone)
        for name, directory, volumes in staged:
            if directory_for(draft.state, name) != directory:
                raise StorageError(f"{uri}: its collection {name!r} was renamed meanwhile; append again")
            add_collection(draft, directory, name)
            put_volumes(draft, f"{COLLECTIONS}/{directory}/{OBS}", volumes)

    try:
        for name, found in pairs.items():
            directory = directory_for(state, name)
            target = join(uri, COLLECTIONS, directory)
            batch = ImageBatch(kinds[name], found, reorient=reorient)
            staged.append((name, directory, stage_images(target, name, batch, ctx, progress)))
        store_log(uri, ctx).commit("append", append)
    except DeadlineError:
        raise  # it may have been committed
    except BaseException:
        for _, directory, volumes in staged:
            discard_staged(join(uri, COLLECTIONS, directory), volumes, ctx)
        raise
