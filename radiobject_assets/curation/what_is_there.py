"""What one has, as entries of a manifest: a store's volumes, or those that a folder's files become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from radiobject_assets.curation.manifest import Manifest, ManifestHeader, VolumeEntry
from radiobject_assets.curation.manifest_of_state import volume_entries
from radiobject_assets.curation.tokens import TokenKey
from radiobject_assets.curation.volume_matching import Match, match_volumes
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import IngestError
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.store import TileDBContext, whole_state
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.system.temporary import temporary_folder

OnProgress = Callable[[int, int, str], None]

_OF_IMAGES = ("layout", "collections", "attributes", "imaging", "subjects")
"""Sections of dataset.yaml that decide what becomes of files."""


def match_store(
    manifest: Manifest, store_uri: str, snapshot: str | None = None, ctx: TileDBContext | None = None
) -> Match:
    """Compare a store, or one of its snapshots, with a manifest.

    Raises
    ------
    StorageError
        There is no such store or snapshot.
    SchemaError
        The manifest is damaged.
    """
    state = whole_state(store_uri, snapshot, ctx)
    key = TokenKey.of(state)
    return match_volumes(manifest, volume_entries(state, key), same_key=key.mark == manifest.header.key)


def match_folder(
    manifest: Manifest,
    folder: Path,
    *,
    dataset: DatasetSettings | None = None,
    budget: MemoryBudget,
    compute: Compute,
    on_progress: OnProgress | None = None,
) -> Match:
    """Compare DICOM and NIfTI files with a manifest, by what they become when they are taken in.

    They are taken into a store in a temporary folder (`TMPDIR`), with the settings that the manifest notes
    (or `dataset`). If volumes are missing then, all files are taken in once more by modality, as an export
    of them wants it, and what is missing is looked for there.

    Raises
    ------
    IngestError
        The folder is absent, or holds no files.
    SchemaError
        The manifest is damaged.
    """

    def taken_in(settings: DatasetSettings, place: Path) -> list[VolumeEntry]:
        uri = str(place)
        ingest_sources([folder], uri, settings, budget=budget, compute=compute, on_progress=on_progress)
        state = whole_state(uri)
        return list(volume_entries(state, TokenKey.of(state)))

    if not folder.exists():
        raise IngestError(f"{folder}: no such file or folder")
    manifest.check()
    with temporary_folder() as temporary:
        have = taken_in(dataset or settings_of(manifest.header), temporary / "as-noted")
        match = match_volumes(manifest, have, same_key=False)
        if not match.count("missing"):
            return match
        plain = taken_in(DatasetSettings(), temporary / "by-modality")
    known = {entry.voxels for entry in have}
    wanted = {entry.voxels for entry in manifest.volumes()}
    # what the settings leave out, a scout say, is nothing extra; without them all that is there counts
    more = [e for e in plain if e.voxels not in known and (e.voxels in wanted or not have)]
    return match_volumes(manifest, [*have, *more], same_key=False)


def settings_of(header: ManifestHeader) -> DatasetSettings:
    """What a manifest notes of dataset.yaml, as far as it decides what becomes of files.

    Volumes are matched by voxels, so pseudonyms, whose secret is not here, are of no matter.
    """
    noted = {name: header.settings[name] for name in _OF_IMAGES if name in header.settings}
    if "subjects" in noted:
        noted["subjects"] = {name: value for name, value in noted["subjects"].items() if name != "key"}
    return DatasetSettings.model_validate(noted)
