"""Temporary folders go with their process, or with the next one."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from radiobject_assets.system.temporary import temporary_folder

_HOLD = """
import sys
from radiobject_assets.system.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "voxels").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def other_process() -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_private_and_goes_with_its_block(own_place: Path) -> None:
    with temporary_folder() as one, temporary_folder() as other:
        assert one != other
        assert own_place in one.parents
        assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700
        (one / "part").mkdir()
        (one / "part" / "voxels").write_bytes(b"x")
    assert not one.parent.exists()
    assert not other.parent.exists()


def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_is_not() -> None:
    killed, left = other_process()
    living, used = other_process()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (left / "voxels").exists()
    with temporary_folder() as own:
        assert not left.parent.exists()
        assert (used / "voxels").exists()
        assert own.exists()
    living.communicate("")
    assert living.returncode == 0
    assert not used.parent.exists()


def test_what_others_have_put_there_stays(own_place: Path) -> None:
    kept = own_place / "kept"
    kept.mkdir()
    (kept / ".lock").touch()
    (own_place / "radiobject-assets-link").symlink_to(kept)
    (own_place / "radiobject-assets-without-lock").mkdir()
    with temporary_folder():
        pass
    assert {path.name for path in own_place.iterdir()} == {
        "kept",
        "radiobject-assets-link",
        "radiobject-assets-without-lock",
    }
    assert (kept / ".lock").exists()


_FORK = """
import os, sys
from radiobject_assets.system.temporary import temporary_folder
with temporary_folder() as folder:
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)
    print(folder.exists())
print(folder.parent.exists())
"""


def test_a_forked_child_that_leaves_the_block_does_not_take_the_folder_away() -> None:
    done = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
