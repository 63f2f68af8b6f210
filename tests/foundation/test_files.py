"""Files appear whole or not at all; file locks and staging folders go with their process."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from radiobject_assets.errors import LockedError
from radiobject_assets.system.durable_files import whole_file, write_whole
from radiobject_assets.system.locks import file_lock
from radiobject_assets.system.temporary import staging_folder

_WRITE_HALF = """
import sys
from pathlib import Path
from radiobject_assets.system.durable_files import whole_file
from radiobject_assets.system.temporary import staging_folder
folder = Path(sys.argv[1])
with whole_file(folder / "table") as file, staging_folder(folder / "cache") as cache:
    file.write_text("half")
    (cache / "part").write_text("half")
    print("there", flush=True)
    sys.stdin.read()
"""


def killed_writer(folder: Path) -> None:
    """A process that is killed while it writes `table` and the folder `cache`."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE_HALF, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("old")
    with whole_file(path) as staged:
        staged.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["table"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("old")

    def interrupted() -> None:
        with whole_file(path) as staged:
            staged.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table"]


def test_what_killed_writers_left_goes_with_the_next_ones(tmp_path: Path) -> None:
    killed_writer(tmp_path)
    assert len(names(tmp_path)) == 2
    assert not (tmp_path / "table").exists()
    assert not (tmp_path / "cache").exists()
    write_whole(tmp_path / "table", "x")
    with staging_folder(tmp_path / "cache") as cache:
        (cache / "part").write_text("whole")
    assert (tmp_path / "table").read_text() == "x"
    assert (tmp_path / "cache" / "part").read_text() == "whole"
    assert names(tmp_path) == ["cache", "table"]


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with whole_file(path) as slow:
        slow.write_text("slow, ")
        write_whole(path, b"quick")
        assert path.read_text() == "quick"
        with slow.open("a") as file:
            file.write("and whole")
        with whole_file(path) as last:
            assert last != slow
    assert path.read_text() == "slow, and whole"
    assert names(tmp_path) == ["table"]


def test_a_private_file_is_private_before_it_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "list"
    with whole_file(path, mode=0o600) as staged:
        assert stat.S_IMODE(staged.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_is_written_only_into_a_folder_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "absent" / "table", "x")
    assert names(tmp_path) == []


def test_a_staging_folder_of_a_block_that_fails_goes_and_the_target_is_not_there(tmp_path: Path) -> None:
    def failing() -> None:
        with staging_folder(tmp_path / "cache") as staged:
            (staged / "part").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert names(tmp_path) == []


def test_a_lock_that_is_held_says_where_and_what_to_do(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    waited = r"cannot lock the data set: another process holds it \(waited 0.05 s\); wait for it"
    with file_lock(lock, wait_s=0):
        with pytest.raises(LockedError, match=waited), file_lock(lock, wait_s=0.05, place="the data set"):
            pass
        with (
            pytest.raises(LockedError, match="lock: another process holds it; wait"),
            file_lock(lock, wait_s=0),
        ):
            pass
    with file_lock(lock, wait_s=0):
        pass


_FORK = """
import os, sys
from radiobject_assets.system.locks import file_lock
with file_lock(sys.argv[1], wait_s=0):
    child = os.fork()
    if child == 0:
        sys.exit(0)  # which leaves the block
    os.waitpid(child, 0)
    print("there", flush=True)
    sys.stdin.read()
"""


def test_a_fork_that_leaves_the_block_does_not_let_go_of_its_parents_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _FORK, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"there\n"
    with pytest.raises(LockedError), file_lock(lock, wait_s=0):
        pass
    holder.communicate(b"")
    with file_lock(lock, wait_s=0):
        pass


def test_a_lock_that_must_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), file_lock(tmp_path / "lock", create=False):
        pass
    with file_lock(tmp_path / "locks" / "one", make_folders=True):
        assert names(tmp_path / "locks") == ["one"]
