"""Writers that are killed or lose their power: a file is whole or absent, and nothing stands in the way."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from radiobject_assets.store.storage import Storage

pytestmark = pytest.mark.timeout(300)

ROUNDS = 12


def _write_until_killed(storage: Storage, ready: Any) -> None:
    storage.exists("replaced")  # which opens connections
    ready.set()
    number = 0
    while True:
        data = os.urandom(random.randrange(2_000_000))
        whole = hashlib.sha256(data).digest() + data
        storage.write("replaced", whole)
        storage.publish(f"log/{os.getpid()}-{number:06d}", whole)
        number += 1


def test_a_writer_that_is_killed_leaves_whole_files_or_none(storage: Storage) -> None:
    make = multiprocessing.get_context("fork")
    rng = random.Random(secrets.randbits(32))
    for _ in range(ROUNDS):
        ready = make.Event()
        writer = make.Process(target=_write_until_killed, args=(storage, ready))
        writer.start()
        assert ready.wait(30)
        time.sleep(rng.uniform(0.01, 0.3))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    paths = [entry.path for entry in storage.list(recursive=True)]
    assert len(paths) > ROUNDS / 2
    for path in paths:
        whole = storage.read(path)
        assert hashlib.sha256(whole[32:]).digest() == whole[:32], path
    storage.write("replaced", b"again")
    assert storage.publish("log/next", b"next")
    for leftover in storage.leftovers(0):
        assert re.fullmatch(r"tmp/[0-9a-f]{32}", leftover.path)
        storage.remove(leftover.path)
    assert storage.leftovers(0) == []
    assert storage.read("replaced") == b"again"


def test_leftovers_are_those_that_nobody_has_touched_for_so_long(local: Storage, tmp_path: Path) -> None:
    local.write("f", b"")
    staged = tmp_path / "store" / "tmp" / ("0" * 32)
    staged.write_bytes(b"half")
    assert local.leftovers(3600) == []
    os.utime(staged, (time.time() - 7200,) * 2)
    assert [(entry.path, entry.size) for entry in local.leftovers(3600)] == [("tmp/" + "0" * 32, 4)]
    assert [entry.path for entry in local.list(recursive=True)] == ["f"]


_ONE_OF_EACH = """
import sys
from radiobject_assets.store.storage import open_storage
storage = open_storage(sys.argv[1])
storage.write("a/b/written", b"w" * 10)
storage.publish("c/published", b"p" * 10)
storage.remove("a/b/written")
"""
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*?)\) += (-?\d+)")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_bytes_are_on_the_disk_before_a_name_and_the_name_before_the_call_returns(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "openat,write,writev,fsync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,close"
    done = subprocess.run(
        ["strace", "-f", "-y", "-o", str(trace), "-e", f"trace={calls}",
         sys.executable, "-c", _ONE_OF_EACH, str(tmp_path / "store")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip("this machine allows no tracing")
    assert done.returncode == 0, done.stderr
    place = str(tmp_path / "store")
    unnamed = re.compile(r"/#\d+(?: ?\(deleted\))?")
    steps: list[str] = []
    for line in trace.read_text().splitlines():
        found = _CALL.match(line)
        if found is None or place not in found[2] or found[3].startswith("-"):
            continue
        name, arguments = found[1], re.sub(r"tmp/[0-9a-f]{32}", "STAGED", found[2].replace(place, ""))
        arguments = unnamed.sub("/UNNAMED", arguments)
        paths = re.findall(r"(?<=[<\"])/?[\w/]*(?=[>\"])", arguments)
        if name in ("fsync", "link", "linkat", "rename", "renameat", "unlink", "unlinkat", "mkdir"):
            steps.append(" ".join([re.sub("at$", "", name), *(path for path in paths if path)]))
    text = "\n".join(steps)
    folders = r"mkdir /a\nfsync.*\nmkdir /a/b\nfsync /a\n"
    assert re.search(rf"fsync /STAGED\n{folders}rename /STAGED /a/b/written\nfsync /a/b\n", text), text
    published = r"mkdir /c\nfsync.*\n(fsync /c/UNNAMED\nlink .*|fsync /STAGED\nlink /STAGED) /c/published"
    assert re.search(rf"{published}\nfsync /c\n", text), text
    assert re.search(r"unlink /a/b/written\nfsync /a/b", text), text
