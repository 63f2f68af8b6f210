"""The component in a Dagster project of somebody else: from `create-dagster` to a batch."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from radiobject_assets.phantom.cohort import make_subject
from tests.platform.deployed import ROOT

NAME = "radiobject_assets.components.RadiologyDataset"
GROUP = "dagster_dg_cli.registry_modules"
BIN = Path(sys.executable).parent
SCRIPT = """
from pathlib import Path
import dagster as dg
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.training import patch_loader

definitions = dg.load_from_defs_folder(path_within_project=Path("src/chest"))
with open_instance(Path("dagster")) as instance:
    assert not run_pass(definitions, instance).failed
cache = next(Path("work/patches/train").glob("patches-*"))
batch = next(iter(patch_loader(cache, batch_size=2)))
print(tuple(batch["image"].shape), batch["image"].dtype)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where the component is found: as it is installed, or as pyproject.toml would install it."""
    for name in ("dg", "create-dagster"):
        if not (BIN / name).is_file():
            pytest.skip(f"{name} is not installed (dagster-dg-cli, create-dagster)")
    paths = [str(ROOT), "src"]
    if not any(point.value == "radiobject_assets.components" for point in entry_points(group=GROUP)):
        told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        points = told["project"]["entry-points"][GROUP]
        folder = tmp_path / "site" / "registered-0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: registered\nVersion: 0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")
        paths.append(str(tmp_path / "site"))
    kept = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A fresh project with the component in it, by Dagster's own commands."""
    run(["create-dagster", "project", "chest", "--no-uv-sync"], tmp_path, environment)
    run(["dg", "scaffold", "defs", NAME, "radiology"], tmp_path / "chest", environment)
    return tmp_path / "chest"


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_eight_lines_of_yaml_are_a_data_set(project: Path, environment: dict[str, str]) -> None:
    said = project / "src" / "chest" / "defs" / "radiology" / "defs.yaml"
    assert len(said.read_text(encoding="utf-8").splitlines()) == 8
    assert "successfully" in run(["dg", "check", "defs"], project, environment)
    shown = run(["dg", "list", "defs", "--json"], project, environment)
    for asset in ("raw_dicom", "series", "ct", "subjects", "dataset", "splits", "patch_cache"):
        assert f'"radiology/{asset}"' in shown
    # the docs tab: the text, the keys and an example
    text = run(["dg", "utils", "inspect-component", NAME], project, environment)
    assert "landing zone" in text
    assert "foreground_fraction" in text
    assert '"folder"' not in text

    said.write_text(said.read_text(encoding="utf-8").replace("modality: CT", "modalty: CT"))
    wrong = subprocess.run(
        ["dg", "check", "yaml"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 1
    assert "modalty" in wrong.stdout + wrong.stderr
    assert "defs.yaml:7" in wrong.stdout + wrong.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_components_are_two_data_sets_of_one_project(project: Path, environment: dict[str, str]) -> None:
    first = project / "src" / "chest" / "defs" / "radiology" / "defs.yaml"
    text = first.read_text(encoding="utf-8")
    second = first.parent.parent / "heart" / "defs.yaml"
    second.parent.mkdir()
    text = text.replace("name: radiology", "name: heart-ct").replace("landing: landing", "landing: other")
    second.write_text(text.replace("store: store", "store: other-store"), encoding="utf-8")
    make_subject(project / "landing", 1, shape=(48, 48, 24))
    make_subject(project / "other", 2, shape=(48, 48, 24))
    script = SCRIPT.split("cache =")[0].replace("from radiobject_assets.training import patch_loader\n", "")
    run([sys.executable, "-c", script], project, environment)
    assert (project / "store" / "state.json").is_file()
    assert (project / "other-store" / "state.json").is_file()


@pytest.mark.timeout(1200)
def test_from_a_fresh_project_to_a_batch(project: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    for number in (1, 2, 3):
        make_subject(project / "landing", number, shape=(96, 96, 48))
    assert len([line for line in SCRIPT.splitlines() if line]) == 10
    assert "(2, 1, 64, 64, 32) torch." in run([sys.executable, "-c", SCRIPT], project, environment)
    assert (project / "store" / "state.json").is_file()
