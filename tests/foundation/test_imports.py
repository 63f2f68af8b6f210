"""What importing the package brings in, and that every public name is really there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import radiobject_assets


def loaded_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_dagster_nor_ray() -> None:
    assert not loaded_after("import radiobject_assets") & {"torch", "dagster", "ray", "tiledb", "pydicom"}


def test_the_store_and_the_ingest_work_without_torch_and_dagster() -> None:
    loaded = loaded_after("from radiobject_assets import RadiObject, ingest_sources, PatchCache")
    assert not loaded & {"torch", "dagster", "ray"}


@pytest.mark.parametrize("name", radiobject_assets.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(radiobject_assets, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = radiobject_assets.Nothing
