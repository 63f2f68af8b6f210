"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from radiobject_assets.dataset.dataset_yaml import load_dataset

if TYPE_CHECKING:
    from tests.platform.conftest import Line

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The one code block of the README that holds a text, without the indentation of a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, flags=re.DOTALL | re.MULTILINE)
    (text,) = (
        "\n".join(line.removeprefix(i) for line in code.splitlines())
        for i, code in found
        if containing in code
    )
    return text


def test_the_training_loop_of_the_readme_runs_over_the_demo_home(line: Line, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "demo-home").symlink_to(line.home)
    code = block("python", "patch_loader")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"loss \d+\.\d+; this patch was cut from series [\d.]+", done.stdout)


def test_the_dataset_description_of_the_readme_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(block("yaml", "labels_of"), encoding="utf-8")
    assert set(load_dataset(path).collections) == {"ct", "seg"}
