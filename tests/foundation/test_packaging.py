"""What is installed from a wheel is the whole product, works without this folder, and is nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("hatchling", reason="hatchling, which builds the packages, is not installed")


def built(kind: str, source: Path, into: Path) -> Path:
    """The wheel or sdist that hatchling makes of a folder, without network."""
    module, name = ("wheel", "WheelBuilder") if kind == "wheel" else ("sdist", "SdistBuilder")
    program = (
        f"from hatchling.builders.{module} import {name} as Builder\n"
        f"print(next(Builder({str(source)!r}).build(directory={str(into)!r}, versions=['standard'])))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_every_file_of_the_package_and_resources_only_inside_it(wheel: Path) -> None:
    there = {name for name in names(wheel) if ".dist-info/" not in name}
    package = ROOT / "radiobject_assets"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for folder in (package, package / "resources")  # rglob does not follow the link
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there == wanted
    assert {"radiobject_assets/py.typed", "radiobject_assets/store/__init__.pyi"} <= there
    assert {f"radiobject_assets/resources/{path.name}" for path in (ROOT / "resources").glob("*.py")} <= there


def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(built("sdist", ROOT, tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = built("wheel", unpacked, tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }


def test_the_image_copies_all_that_a_build_needs() -> None:
    copied = {
        word
        for line in (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY")
        for word in line.split()[1:-1]
    }
    assert copied >= {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "constraints.txt",
        "radiobject_assets",
        "resources",
    }
    assert [name for name in copied if not (ROOT / name).exists()] == []


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and the dependencies, but not the project from here."""
    home = tmp_path_factory.mktemp("bare") / "env"
    venv.create(home, symlinks=True)
    python = home / "bin/python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    # a folder in a .pth is searched, but the .pth of the editable installation that lies in it is not read
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def run(program: Path, *arguments: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_and_every_public_name_come_from_the_installed_wheel(
    installed: Path, tmp_path: Path
) -> None:
    assert "ingest" in run(installed / "radiobject-assets", "--help", cwd=tmp_path)
    program = """
import importlib.util
import radiobject_assets as package
assert all(getattr(package, name) is not None for name in package.__all__)
from radiobject_assets import definitions, resources
print(package.__file__, resources.__file__, definitions.__file__, sep="\\n")
print(importlib.util.find_spec("resources"), importlib.util.find_spec("benchmarks"))
"""
    *files, others = run(installed / "python", "-c", program, cwd=tmp_path).splitlines()
    assert all(file.startswith(str(installed.parent)) for file in files)
    assert others == "None None"


@pytest.mark.slow
def test_the_demo_runs_from_the_installed_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    told = run(installed / "radiobject-assets", "demo", cwd=tmp_path)
    assert "0 failed" in told
    assert {path.name for path in tmp_path.iterdir()} == {"demo-home"}
