"""What importing the package brings in, and that every public name is really there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import radiobject_assets
from radiobject_assets.cli.demo import DATASET_YAML


def loaded_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_dagster() -> None:
    assert not loaded_after("import radiobject_assets") & {"torch", "dagster", "tiledb", "pydicom"}


def test_the_store_and_the_ingest_work_without_torch_and_dagster() -> None:
    loaded = loaded_after("from radiobject_assets import RadiObject, ingest_sources, PatchCache")
    assert not loaded & {"torch", "dagster"}


# What works, and takes longer to import than Dagster itself: where it is needed, not with the definitions.
HEAVY = {
    *("numpy", "pandas", "pyarrow", "scipy", "PIL", "matplotlib", "tiledb", "botocore", "boto3", "torch"),
    *("pydicom", "highdicom", "nibabel", "nrrd", "gdcm", "numcodecs", "blake3", "zstandard", "isal"),
}


def test_the_definitions_load_little_more_than_dagster_does(tmp_path: Path) -> None:
    """Every run's process, every tick of the code server and every reload pays for it."""
    (tmp_path / "dataset.yaml").write_text(DATASET_YAML, encoding="utf-8")
    definitions = loaded_after(
        "from radiobject_assets.definitions import build_definitions\n"
        f"build_definitions({str(tmp_path / 'dataset.yaml')!r}).get_repository_def()"
    )
    more = definitions - loaded_after("import dagster\ndagster.Definitions().get_repository_def()")
    assert not more & HEAVY
    # 13 today: Dagster's own, and lazy_loader; whatever brings many is worth a look
    assert len({name for name in more if not name.startswith("radiobject_assets")}) < 60


def loaded_by_command(*arguments: str) -> set[str]:
    command = [sys.executable, "-X", "importtime", "-m", "radiobject_assets.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}


def test_ingest_and_describe_load_neither_pandas_nor_dagster_nor_pydicom(tmp_path: Path) -> None:
    image, store = str(tmp_path / "image.nii.gz"), str(tmp_path / "store")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), image)
    loaded = loaded_by_command("ingest", image, "--store", store, "--json")
    assert {"tiledb", "pyarrow"} <= loaded
    heavy = {"pandas.core", "torch", "dagster", "pydicom", "matplotlib"}
    assert not loaded & heavy
    # what only descriptions of data sets, checks of settings and worker processes need
    little = {"yaml", "asyncio", "numpy.ma", "psutil", "multiprocessing"}
    assert not loaded & little
    assert not loaded_by_command("describe", store, "--json") & heavy


def test_help_loads_nothing_of_what_commands_work_with() -> None:
    loaded = loaded_by_command("ingest", "--help")
    assert not loaded & {"numpy", "tiledb", "pyarrow", "pandas.core", "dagster"}


def test_pyarrow_knows_pandas_as_soon_as_something_loads_it() -> None:
    program = """
from radiobject_assets.system.pyarrow_start import pyarrow_without_pandas
pyarrow_without_pandas()
import pyarrow as pa
pa.array([1]), pa.table({"a": ["x"]})
import sys
assert "pandas" not in sys.modules
import pandas as pd
assert pa.array(pd.Series(["a", "b"], dtype="category")).type.index_type == pa.int8()
assert pa.array(pd.Series([pd.Timestamp("2020"), pd.NaT])).null_count == 1
assert pa.table({"a": [1]}).to_pandas()["a"].tolist() == [1]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", radiobject_assets.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(radiobject_assets, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute Nothing"):
        _ = radiobject_assets.Nothing
