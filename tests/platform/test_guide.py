"""Every code block of the README and of the guide runs as it stands there, in order, over the phantom cohort.

`sh` and `python` blocks are run, the Python ones of a page in one interpreter; a `yaml` block is written to
the file that its title names. A block under `<!-- not run: reason -->` is shown only.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from radiobject_assets.dataset import load_dataset
from tests.store.conftest import S3Server, s3_server

if TYPE_CHECKING:
    from tests.platform.conftest import Line

__all__ = ["s3_server"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)(?:<!-- not run: (?P<reason>[^\n]+) -->\n\s*)?"
    r"```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<code>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
BUCKET = "my-bucket"
DRIVER = """
import json, subprocess, sys
names = {"__name__": "__main__"}
for language, code in json.load(sys.stdin):
    print(code, file=sys.stderr, flush=True)
    if language == "python":
        exec(compile(code, "page", "exec"), names)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
"""


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    reason: str | None
    """Why it is not run."""
    code: str


def blocks(page: Path) -> list[Block]:
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        indent = match["indent"]
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        found.append(Block(match["language"], match["title"], match["reason"], code))
    return found


def run(found: list[Block], folder: Path, **environment: str) -> str:
    """Run the blocks of a page in a folder; what they print."""
    for block in found:
        if block.language == "yaml" and block.reason is None:
            assert block.title is not None, f"a yaml block needs a title, the file that it is:\n{block.code}"
            (folder / block.title).write_text(block.code, encoding="utf-8")
    steps = [(b.language, b.code) for b in found if b.language in ("sh", "python") and b.reason is None]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(steps),
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": python_path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def home(line: Line, tmp_path: Path) -> Path:
    """A folder with the demo's home in it, as `make demo` leaves it."""
    shutil.copytree(line.home, tmp_path / "demo-home")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= {"sh", "python", "yaml", "text"}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "s3-and-servers.md"], ids=lambda page: page.name
)
def test_the_blocks_of_a_page_run_in_order(page: Path, home: Path) -> None:
    found = blocks(page)
    if any("torch" in block.code for block in found):
        pytest.importorskip("torch")
    shown = run(found, home)
    if page.name == "training.md":
        assert re.search(r"loss \d+\.\d+; this patch was cut from series [\d.]+", shown)


@pytest.mark.s3
def test_the_blocks_on_s3_run_against_a_real_server(s3_server: S3Server, home: Path) -> None:
    place = f"{s3_server.bucket}/{secrets.token_hex(6)}"
    found = [
        Block(b.language, b.title, b.reason, b.code.replace(BUCKET, place))
        for b in blocks(ROOT / "docs" / "guide" / "s3-and-servers.md")
    ]
    run(
        found,
        home,
        AWS_ACCESS_KEY_ID=s3_server.access_key,
        AWS_SECRET_ACCESS_KEY=s3_server.secret_key,
        AWS_ENDPOINT_URL=s3_server.endpoint,
    )


def test_the_data_set_of_the_guide_is_valid(tmp_path: Path) -> None:
    (block,) = (b for b in blocks(ROOT / "docs" / "guide" / "your-own-data.md") if b.title == "dataset.yaml")
    (tmp_path / "dataset.yaml").write_text(block.code, encoding="utf-8")
    assert set(load_dataset(tmp_path / "dataset.yaml").collections) == {"ct", "seg"}
