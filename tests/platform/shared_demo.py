"""One run of the demo for all workers of a session: it takes a minute, and most tests only look at it."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from radiobject_assets.cli.demo import DemoSummary
from radiobject_assets.system.locks import file_lock
from tests.platform.deployed import ROOT
from tests.served import ENVIRONMENT

SHAPE = (64, 64, 32)
# as the command does it, but smaller
_PROGRAM = """
import pickle, sys
from pathlib import Path
from radiobject_assets.cli.demo import print_summary, run_demo
from radiobject_assets.cli.output import out, progress
with progress("demo") as report:
    summary = run_demo(Path(sys.argv[1]), shape=eval(sys.argv[2]), on_progress=report)
print_summary(summary, out)
Path(sys.argv[3]).write_bytes(pickle.dumps(summary))
"""


@dataclass(frozen=True)
class SharedDemo:
    """A copy of a home that was run once, of this worker's own."""

    home: Path
    summary: DemoSummary
    printed: str
    errors: str
    """What the demo printed."""


def shared_demo(factory: pytest.TempPathFactory) -> SharedDemo:
    """Run the demo, unless another worker did, and copy its home."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made, told = shared / "demo-made", shared / "demo-told"
    with file_lock(shared / "demo.lock", wait_s=900):
        if not told.is_dir():
            growing = shared / "demo-growing"
            for folder in (made, growing):
                shutil.rmtree(folder, ignore_errors=True)
            growing.mkdir()
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, made, str(SHAPE), growing / "summary"],
                env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            (growing / "out").write_text(done.stdout, encoding="utf-8")
            (growing / "err").write_text(done.stderr, encoding="utf-8")
            growing.rename(told)
    home = factory.mktemp("demo")
    shutil.copytree(made, home, dirs_exist_ok=True)
    summary = replace(pickle.loads((told / "summary").read_bytes()), home=home)
    return SharedDemo(
        home,
        summary,
        (told / "out").read_text(encoding="utf-8"),
        (told / "err").read_text(encoding="utf-8"),
    )
