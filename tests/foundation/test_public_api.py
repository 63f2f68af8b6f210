"""Every public name that scripts written for RadiObject use can be imported, from where the guide says."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import radiobject_assets

TOP = """
configure reset_radiobject_config get_radiobject_config get_tiledb_ctx get_tiledb_config
WriteConfig TileConfig SliceOrientation CompressionConfig Compressor OrientationConfig
ReadConfig S3Config RadiObjectConfig
Volume VolumeCollection RadiObject uri_exists delete_tiledb_uri Dataframe Index align
LazyQuery EagerQuery VolumeCollectionWriter RadiObjectWriter
ctx_for_threads ctx_for_process map_on_threads TileDBStats
ImageFormat NiftiSource discover_nifti_pairs NiftiMetadata DicomMetadata extract_nifti_metadata
extract_dicom_metadata infer_series_type OrientationInfo detect_nifti_orientation detect_dicom_orientation
is_orientation_valid reorient_to_canonical
RadiObjectError ShapeError AlignmentError StorageError ConfigurationError SchemaError IngestError ViewError
"""

TRAINING = """
LoadingMode DatasetConfig VolumeCollectionDataset SegmentationDataset VolumeCollectionSubjectsDataset
create_training_dataloader create_validation_dataloader create_inference_dataloader
create_segmentation_dataloader create_distributed_dataloader set_epoch
"""

MEMBERS = {
    "Volume": """
        shape ndim dtype obs_id tile_orientation orientation_info axial sagittal coronal slice to_numpy
        get_statistics compute_histogram to_nifti set_obs_id create from_numpy from_nifti from_dicom
    """,
    "VolumeCollection": """
        uri name is_view shape is_uniform obs obs_ids obs_subject_ids index subjects iloc loc sel filter
        head tail sample groupby_subject get_obs_row_by_obs_id to_obs lazy map map_batches append write
        validate to_dataset from_niftis from_dicoms
    """,
    "RadiObject": """
        collection collection_names n_collections is_view obs_meta obs_subject_ids index all_obs_ids
        iloc loc sel filter head tail sample select_collections describe get_volume
        get_obs_row_by_obs_subject_id lazy write append add_collection rename_collection validate
        from_images from_collections
    """,
    "Dataframe": """
        columns index_columns dtypes read add_column drop_column update delete create from_pandas
    """,
    "Index": "build get_index get_key take mask is_aligned to_set to_list",
    "LazyQuery": """
        filter filter_subjects iloc loc head tail sample map count to_obs iter_volumes to_numpy_stack
        write
    """,
    "EagerQuery": "map write to_list to_dataframe",
    "VolumeCollectionWriter": "write_volume write_batch n_written",
    "RadiObjectWriter": "write_obs_meta add_collection collection_names finalize",
    "TileDBStats": "cache_stats s3_stats all_counters counters raw_json",
}

PARAMETERS = {
    "configure": "write read s3",
    "map_on_threads": "fn items max_workers progress desc",
    "discover_nifti_pairs": "image_dir label_dir pattern subject_id_fn",
    "Volume.create": "uri shape dtype ctx",
    "Volume.from_numpy": "uri data ctx",
    "Volume.from_nifti": "uri path ctx reorient",
    "Volume.from_dicom": "uri directory ctx reorient dtype",
    "VolumeCollection.append": "niftis dicom_dirs reorient progress",
    "VolumeCollection.from_niftis": """
        uri niftis obs reorient validate_dimensions valid_subject_ids name ctx progress
    """,
    "RadiObject.append": "images obs_meta reorient format_hint progress",
    "RadiObject.from_images": "uri images validate_alignment obs_meta reorient format_hint ctx progress",
    "RadiObject.from_collections": "uri collections obs_meta ctx",
    "Dataframe.read": "columns value_filter include_index",
    "Dataframe.create": "uri schema ctx index_columns",
    "VolumeCollectionWriter": "uri shape obs_schema name ctx",
    "RadiObjectWriter": "uri obs_meta_schema ctx",
}


@pytest.mark.parametrize("name", TOP.split())
def test_a_name_of_radiobject_is_imported_from_the_package(name: str) -> None:
    assert name in radiobject_assets.__all__
    assert getattr(radiobject_assets, name).__doc__


@pytest.mark.parametrize("name", TRAINING.split())
def test_a_training_name_is_imported_from_training(name: str) -> None:
    training = importlib.import_module("radiobject_assets.training")
    assert name in training.__all__
    assert getattr(training, name) is not None


@pytest.mark.parametrize("owner", MEMBERS)
def test_methods_and_properties_are_there(owner: str) -> None:
    thing = getattr(radiobject_assets, owner)
    missing = [name for name in MEMBERS[owner].split() if not hasattr(thing, name)]
    assert missing == [] or set(missing) <= set(getattr(thing, "__annotations__", {}))


@pytest.mark.parametrize("path", PARAMETERS)
def test_parameters_keep_their_names(path: str) -> None:
    owner, _, method = path.partition(".")
    thing = getattr(radiobject_assets, owner)
    thing = getattr(thing, method) if method else thing
    assert set(PARAMETERS[path].split()) <= set(inspect.signature(thing).parameters)


def test_every_exported_name_exists() -> None:
    absent = [name for name in radiobject_assets.__all__ if not hasattr(radiobject_assets, name)]
    assert absent == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, radiobject_assets as r; dir(r); "
        "print([m for m in ('torch', 'dagster', 'tiledb', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
