"""Local disks that are full, read-only or out of descriptors, and file locks between processes."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage import LockedError, Storage, open_storage
from radiobject_assets.system import publishing

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False)
    if mount.returncode:
        pytest.skip("this user may not mount file systems")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def refuse(storage: Storage, code: int, words: str) -> None:
    """Writing and publishing fail for this reason, which the error tells, and nothing is there."""
    for write in (storage.write, storage.publish):
        with pytest.raises(StorageError, match=words) as failed:
            write("new/file", b"x" * 2_000_000)
        assert isinstance(failed.value.__cause__, OSError)
        assert failed.value.__cause__.errno == code
        assert f"{storage.uri}/new/file" in str(failed.value)
    assert not storage.exists("new/file")


def test_a_full_disk_is_told_and_what_was_there_stays(small_disk: Path) -> None:
    storage = open_storage(str(small_disk / "store"))
    storage.write("old", b"o" * 500_000)
    refuse(storage, errno.ENOSPC, "the disk is full")
    with pytest.raises(StorageError, match="the disk is full"):
        storage.write("old", b"n" * 800_000)
    assert storage.read("old") == b"o" * 500_000
    assert storage.leftovers(0) == []
    storage.remove("old")
    storage.write("newer", b"n" * 900_000)
    assert storage.read("newer") == b"n" * 900_000


def test_a_read_only_disk_is_told_and_read(small_disk: Path) -> None:
    storage = open_storage(str(small_disk / "store"))
    storage.write("old", b"o")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refuse(storage, errno.EROFS, "read-only")
    with pytest.raises(StorageError, match="read-only"):
        storage.remove("old")
    with pytest.raises(StorageError, match="read-only"):
        storage.remove_tree("")
    assert storage.read("old") == b"o"
    assert [entry.path for entry in storage.list()] == ["old"]


_AS_OTHER = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.path.insert(0, sys.argv[2])
from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage import open_storage
storage = open_storage(sys.argv[1])
print(storage.read("old"))
for use in (lambda: storage.write("new", b"x"), lambda: storage.publish("new", b"x"),
            lambda: storage.remove("old"), lambda: storage.remove_tree(""), lambda: storage.read("secret")):
    try:
        use()
    except StorageError as error:
        print(error.__cause__.errno, error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_a_folder_without_rights_is_told(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "store"))
    storage.write("old", b"o")
    storage.write("secret", b"s")
    os.chmod(tmp_path / "store" / "secret", 0o600)
    for folder in [tmp_path, *tmp_path.parents][:-1]:
        if not os.stat(folder).st_mode & 0o001:
            os.chmod(folder, os.stat(folder).st_mode | 0o001)
    # Whoever may not read the checkout is not of interest here: what is needed of it is imported before.
    code = _AS_OTHER.replace("os.setgroups", "import radiobject_assets.store.storage\nos.setgroups")
    done = subprocess.run(
        [sys.executable, "-c", code, storage.uri, str(Path(__file__).parents[3])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first == "b'o'"
    assert len(others) == 5
    for line in others:
        assert line.startswith(str(errno.EACCES))
        assert "permission denied" in line


def _in_limits(kind: int, most: int, path: str, results: Any) -> None:
    storage = open_storage(path)
    storage.write("old", b"o")
    resource.setrlimit(kind, (most, most))
    held = []
    if kind == resource.RLIMIT_NOFILE:
        while True:
            try:
                held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
    for use in (
        lambda: storage.write("new", b"x" * 100_000),
        lambda: storage.publish("new", b"x" * 100_000),
        lambda: storage.read("old"),
        lambda: storage.list(),
    ):
        try:
            results.append((0, repr(use())))
        except StorageError as error:
            results.append((getattr(error.__cause__, "errno", 0), str(error)))
    for handle in held:
        os.close(handle)


def _limited(kind: int, most: int, storage: Storage) -> list[tuple[int, str]]:
    make = multiprocessing.get_context("fork")
    ours, theirs = make.Pipe()

    def run() -> None:
        results: list[tuple[int, str]] = []
        _in_limits(kind, most, storage.uri, results)
        theirs.send(results)

    worker = make.Process(target=run)
    worker.start()
    assert ours.poll(60)
    results: list[tuple[int, str]] = ours.recv()
    worker.join()
    return results


def test_too_many_open_files_are_told(local: Storage) -> None:
    found = _limited(resource.RLIMIT_NOFILE, 40, local)
    assert [code for code, _ in found] == [errno.EMFILE] * 4
    assert all("too many files open" in text for _, text in found)
    assert local.read("old") == b"o"
    assert not local.exists("new")


def test_a_limit_of_file_sizes_is_told(local: Storage) -> None:
    found = _limited(resource.RLIMIT_FSIZE, 50_000, local)
    assert [code for code, _ in found] == [errno.EFBIG, errno.EFBIG, 0, 0]
    assert not local.exists("new")
    assert local.leftovers(0) == []


def test_a_file_where_a_folder_should_be_is_told(local: Storage) -> None:
    local.write("a", b"")
    for write in (local.write, local.publish):
        with pytest.raises(StorageError, match="a file lies where a folder should be"):
            write("a/b", b"x")
    local.write("d/e", b"")
    with pytest.raises(StorageError, match="a folder lies where a file should be"):
        local.write("d", b"x")
    assert not local.publish("d", b"x")


@pytest.mark.parametrize("without", ["hard links", "hard links and exclusive renames"])
def test_where_there_are_no_hard_links_one_publisher_wins_all_the_same(
    local: Storage, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No file system without them is to be had on most machines: the system's answers are exchanged.
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    def no_rename(*_: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(os, "link", no_link)
    if without != "hard links":
        monkeypatch.setattr(publishing, "_renameat2", lambda: no_rename)
    make = multiprocessing.get_context("fork")
    results = make.Queue()

    def publish(me: int) -> None:
        results.put([n for n in range(100) if local.publish(f"log/{n}", b"%d" % me)])

    workers = [make.Process(target=publish, args=(me,)) for me in range(8)]
    for worker in workers:
        worker.start()
    won = [number for _ in workers for number in results.get(timeout=60)]
    for worker in workers:
        worker.join()
    assert sorted(won) == list(range(100))
    assert local.leftovers(0) == []


def _hold(storage: Storage, held: Any) -> None:
    with storage.lock("locks/one", wait_s=5):
        held.set()
        time.sleep(600)


def test_a_lock_is_held_by_one_process_and_let_go_by_a_kill(local: Storage) -> None:
    make = multiprocessing.get_context("spawn")
    held = make.Event()
    holder = make.Process(target=_hold, args=(local, held))
    holder.start()
    assert held.wait(60)
    started = time.monotonic()
    with pytest.raises(LockedError, match="another process"), local.lock("locks/one", wait_s=0.3):
        pass
    assert 0.3 <= time.monotonic() - started < 5
    with local.lock("locks/two", wait_s=0):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    with local.lock("locks/one", wait_s=30):
        pass
    holder.join()


def test_a_lock_is_held_by_one_thread_and_let_go_by_an_error(local: Storage) -> None:
    inside = most = total = 0

    def add() -> None:
        nonlocal inside, most, total
        for _ in range(20):
            with local.lock("l", wait_s=60):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                total += 1
                inside -= 1

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, total) == (1, 120)
    with pytest.raises(KeyError), local.lock("l", wait_s=1):
        raise KeyError
    with local.lock("l", wait_s=0):
        pass


def test_a_lock_whose_file_was_removed_is_still_of_one(local: Storage) -> None:
    other = local.lock("l", wait_s=20)
    with local.lock("l", wait_s=0):
        waiting = threading.Thread(target=other.__enter__)
        waiting.start()
        time.sleep(0.1)
        local.remove("l")
    waiting.join()
    with pytest.raises(LockedError), local.lock("l", wait_s=0.1):
        pass


def test_a_child_that_was_forked_under_a_lock_does_not_keep_it(local: Storage) -> None:
    make = multiprocessing.get_context("fork")
    with local.lock("l", wait_s=0):
        child = make.Process(target=time.sleep, args=(600,))
        child.start()
    with local.lock("l", wait_s=0):
        pass
    child.kill()
    child.join()


def test_links_to_folders_are_followed_by_listings_and_not_by_removals(
    local: Storage, tmp_path: Path
) -> None:
    outside = open_storage(str(tmp_path / "outside"))
    outside.write("file", b"kept")
    local.write("a/own", b"x")
    os.symlink(tmp_path / "outside", tmp_path / "store" / "a" / "link")
    assert [entry.path for entry in local.list(recursive=True)] == ["a/link/file", "a/own"]
    assert local.read("a/link/file") == b"kept"
    local.remove_tree("a")
    assert outside.read("file") == b"kept"
    assert local.list(recursive=True) == []
