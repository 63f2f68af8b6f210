"""Writes docs/reference/api/*.md: which public names stand on which page, and under which heading.

    python docs/make_api_reference.py

The names are those of the packages' faces (`__init__.pyi`); mkdocstrings fills in their docstrings. Names
under no heading here are those that other packages of this one use: they are listed at the end. A test holds
the pages against what this would write.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "radiobject_assets"
FOLDER = DOCS / "reference" / "api"


@dataclass(frozen=True)
class ApiPage:
    """A package's page: what it is, and its names by heading."""

    about: str
    headings: Mapping[str, str]


PAGES = {
    "store": ApiPage(
        "The RadiObject data structure on TileDB: stores, collections, volumes, tables and snapshots. How "
        "they lie on disk: [the format](../../format.md).",
        {
            "What users hold": "RadiObject VolumeCollection Volume Dataframe Index OrientationInfo align",
            "Queries": "LazyQuery LazyStoreQuery EagerQuery",
            "Writing": "RadiObjectWriter VolumeCollectionWriter ensure_store ensure_collection "
            "rename_collection list_collections is_store stage_volume StagedVolume commit_volumes "
            "discard_staged ensure_subjects upsert_subjects",
            "Snapshots, upkeep, erasing": "Snapshot create_snapshot list_snapshots delete_snapshot "
            "consolidate vacuum VacuumReport delete_subjects DeletionReport",
            "Checking": "verify_store verify_tables verify_volume VolumeProblem rows_without_arrays "
            "arrays_without_rows TileDBStats",
            "Stores of the RadiObject package": "import_radiobject ImportReport",
            "Configuration": "configure get_radiobject_config set_radiobject_config reset_radiobject_config "
            "RadiObjectConfig ReadConfig WriteConfig TileConfig CompressionConfig Compressor "
            "SliceOrientation OrientationConfig S3Config",
            "Contexts, threads, places": "get_tiledb_ctx get_tiledb_config make_ctx ctx_for_threads "
            "ctx_for_process map_on_threads uri_exists delete_tiledb_uri",
        },
    ),
    "training": ApiPage(
        "From a store to batches. Two ways: the patch cache, and straight from volumes; "
        "[the guide](../../guide/training.md) says when to take which.",
        {
            "The patch cache": "build_patch_cache PatchCacheInfo patch_loader PatchLoader PatchCacheDataset "
            "PatchCache Patch PatchBatch verify_patch_cache CacheProblem LeftOut LeftOutReason",
            "Straight from volumes": "create_training_dataloader create_validation_dataloader "
            "create_inference_dataloader create_segmentation_dataloader create_distributed_dataloader "
            "set_epoch VolumeCollectionDataset SegmentationDataset VolumeCollectionSubjectsDataset "
            "DatasetConfig LoadingMode LabelSource",
            "Splits": "assign_splits find_leakage",
        },
    ),
    "imaging": ApiPage(
        "Files of images: metadata and orientation, under the names that RadiObject's users know. What "
        "becomes of files on their way into a store: [the architecture](../../architecture.md).",
        {
            "Metadata": "extract_dicom_metadata DicomMetadata extract_nifti_metadata NiftiMetadata "
            "infer_series_type",
            "Orientation": "OrientationInfo detect_dicom_orientation detect_nifti_orientation "
            "is_orientation_valid reorient_to_canonical",
            "NIfTI images and their masks": "discover_nifti_pairs NiftiSource ImageFormat",
        },
    ),
    "ingest": ApiPage(
        "Files into a store: what `radiobject-assets ingest` and the Dagster assets call.",
        {
            "In one call": "ingest_sources",
            "Step by step": "plan_ingest IngestPlan PlannedSeries run_ingest",
            "What came of it": "IngestReport SeriesOutcome outcomes_table",
        },
    ),
    "dataset": ApiPage(
        "`dataset.yaml` as Python objects. Its keys: [dataset.yaml, key by key](../dataset.md).",
        {"A data set's description": "load_dataset DatasetSettings"},
    ),
}
WHOLE = {
    "store": "The store",
    "training": "Training",
    "imaging": "Images in files",
    "ingest": "Ingest",
    "dataset": "Data sets",
}
"""Headings of the whole package's page, for names that have a page of their own."""


def face(package: Path) -> dict[str, list[str]]:
    """The public names of a package, by the module that they come from."""
    content = ast.parse((package / "__init__.pyi").read_text(encoding="utf-8"))
    return {
        statement.module or "": [alias.asname or alias.name for alias in statement.names]
        for statement in content.body
        if isinstance(statement, ast.ImportFrom)
    }


def package_page(name: str) -> str:
    """The page of one package."""
    said = PAGES[name]
    names = [each for names in face(PACKAGE / name).values() for each in names]
    groups = {heading: listed.split() for heading, listed in said.headings.items()}
    listed = [each for group in groups.values() for each in group]
    if gone := sorted(set(listed) - set(names)):
        raise SystemExit(f"radiobject_assets.{name} has no {', '.join(gone)}: take them out of PAGES")
    lines = [f"# radiobject_assets.{name}", "", said.about]
    for heading, group in groups.items():
        lines += ["", f"## {heading}"]
        for each in group:
            lines += ["", f"::: radiobject_assets.{name}.{each}"]
    if rest := [f"`{each}`" for each in names if each not in listed]:
        lines += ["", "## For other packages of this one", "", f"Subject to change: {', '.join(rest)}."]
    return "\n".join(lines) + "\n"


def whole_page() -> str:
    """The page of `radiobject_assets` itself: links to the packages' pages, and what is on none of them."""
    names = face(PACKAGE)
    lines = [
        "# radiobject_assets",
        "",
        "Names that are imported most, from one place: `from radiobject_assets import RadiObject`. Importing "
        "the package alone loads neither TileDB nor torch nor Dagster; each name is imported on first use.",
    ]
    for package, heading in WHOLE.items():
        links = ", ".join(f"[`{each}`][radiobject_assets.{package}.{each}]" for each in names[package])
        lines += ["", f"## {heading}", "", f"From `radiobject_assets.{package}`: {links}."]
    lines += ["", "## Errors, Dagster, memory and processes"]
    for module in (module for module in names if module not in WHOLE):
        for each in names[module]:
            lines += ["", f"::: radiobject_assets.{each}"]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """All pages, by file name."""
    return {
        "package.md": whole_page(),
        **{f"{package}.md": package_page(package) for package in PAGES},
    }


if __name__ == "__main__":
    for name, content in pages().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
