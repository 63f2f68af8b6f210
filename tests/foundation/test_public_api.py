"""Every public name that scripts written for RadiObject use can be imported, from where the guide says."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

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
    "VolumeCollection.from_volumes": "uri volumes obs_data name ctx",
    "VolumeCollection.create": "uri shape obs_schema name ctx",
    "VolumeCollection.write": "uri name ctx",
    "RadiObject.append": "images obs_meta reorient format_hint progress niftis dicom_dirs",
    "RadiObject.create": "uri obs_meta_schema ctx",
    "RadiObject.from_niftis": """
        uri niftis image_dir collection_name images validate_alignment obs_meta reorient ctx progress
    """,
    "RadiObject.from_dicoms": "uri dicom_dirs obs_meta reorient ctx progress",
    "RadiObject.write": "uri streaming ctx",
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


@cache
def guide() -> tuple[dict[str, str], dict[str, str | None]]:
    """The tables of the guide: RadiObject's modules, and its names, to ours."""
    modules, names = {}, {}
    for line in (Path(__file__).parents[2] / "docs/from-radiobject.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        old = re.fullmatch(r"`(radiobject(\.\w+)*)`", cells[0])
        new = re.fullmatch(r"`([\w.]+)`", cells[1]) if len(cells) > 1 else None
        if old and len(cells) == 2 and new:
            modules[old[1]] = new[1]
        elif old and len(cells) == 3:
            assert new or cells[1] == "—", line
            names[old[1]] = new[1] if new else None
    return modules, names


def found(dotted: str) -> Any:
    """What a dotted name is: the longest part of it that is a module, then attributes."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        module = ".".join(parts[:count])
        if importlib.util.find_spec(parts[0]) is None:
            pytest.skip(f"{parts[0]} is not installed")
        try:
            thing = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            thing = getattr(thing, part)
        return thing
    raise ImportError(dotted)


def test_every_name_that_the_guide_gives_is_there() -> None:
    modules, names = guide()
    assert len(modules) > 30
    for new in {*modules.values(), *(name for name in names.values() if name)}:
        if not new.startswith("monai."):
            assert found(new) is not None, new


def test_the_guide_sends_compose_to_monai() -> None:
    pytest.importorskip("monai", reason="MONAI is not installed")
    new = guide()[1]["radiobject.ml.compat.Compose"]
    assert found(str(new))([lambda value: value + 1, lambda value: value * 2])(3) == 8


def test_the_guide_has_every_public_name() -> None:
    names = guide()[1]
    expected = [f"radiobject.{name}" for name in TOP.split()]
    expected += [f"radiobject.training.{name}" for name in TRAINING.split()]
    assert [name for name in expected if not names.get(name)] == []


def test_the_guide_has_every_module_and_name_of_the_package() -> None:
    package = importlib.util.find_spec("radiobject")
    if package is None or not package.origin:
        pytest.skip("the RadiObject package is not installed")
    modules, names = guide()
    root = Path(package.origin).parent
    missing = []
    for path in root.rglob("*.py"):
        module = ".".join(("radiobject", *path.relative_to(root).with_suffix("").parts))
        module = module.removesuffix(".__init__")
        missing += [module] if module not in modules else []
        public = {name for name in _defined(path) if not name.startswith("_")}
        missing += [name for n in public if (name := f"{module}.{n}") not in names]
    assert sorted(missing) == []


def _defined(path: Path) -> list[str]:
    """Names that a module defines, and those of its `__all__`."""
    defined: list[str] = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            defined.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name == "__all__":
                defined += ast.literal_eval(node.value)
            elif len(name) > 1:  # not a TypeVar
                defined.append(name)
    return defined
