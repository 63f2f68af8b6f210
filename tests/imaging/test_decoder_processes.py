"""Decoder processes are kept for the next call, and end in every way in which they can be forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from jpeg_ls import encode_buffer

from radiobject_assets.imaging.pixels.coded_frames import CodedFrame
from radiobject_assets.imaging.pixels.decoders import Decoders, decoder_processes
from radiobject_assets.workers.idle_processes import Processes

PIXELS = np.arange(20 * 16, dtype=np.uint16).reshape(20, 16)
FRAME = CodedFrame(
    data=bytes(encode_buffer(PIXELS.tobytes(), 20, 16, 1, 16)), number=1,
    transfer_syntax="1.2.840.10008.1.2.4.80", rows=20, columns=16, samples=1, planar=0,
    photometric="MONOCHROME2", bits_allocated=16, bits_stored=16, signed=False,
)  # fmt: skip

_SCRIPT = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_decoder_processes import FRAME, PIXELS
from radiobject_assets.imaging.pixels.decoders import Decoders, decoder_processes

def decode():
    with Decoders(1) as decoders:
        assert (decoders.submit(FRAME).result() == PIXELS).all()
    return decoder_processes.idle_pids[0]

def say(*numbers):
    print(*numbers, flush=True)
"""


def _script(body: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _SCRIPT + body], stdout=subprocess.PIPE, text=True)


def _numbers(script: subprocess.Popen[str]) -> list[int]:
    assert script.stdout is not None
    return [int(number) for number in script.stdout.readline().split()]


def _soon(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 30
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # of a parent that did not wait for it
    except psutil.NoSuchProcess:
        return True


def _decode() -> None:
    with Decoders(1) as decoders:
        np.testing.assert_array_equal(decoders.submit(FRAME).result(), PIXELS)


@pytest.fixture(autouse=True)
def nobody_waits() -> None:
    decoder_processes.end_idle()


def test_the_next_call_finds_the_processes_of_the_last() -> None:
    _decode()
    before = decoder_processes.idle_pids
    _decode()
    assert len(before) == 1
    assert decoder_processes.idle_pids == before


def test_a_process_that_something_else_ended_while_it_waited_is_replaced() -> None:
    _decode()
    (pid,) = decoder_processes.idle_pids
    os.kill(pid, signal.SIGKILL)
    assert _soon(lambda: _is_gone(pid))
    _decode()
    assert decoder_processes.idle_pids != [pid]
    assert not psutil.pid_exists(pid), "nor is it left as a zombie"


def test_processes_that_nobody_wants_end_and_leave_nothing() -> None:
    descriptors = set(os.listdir("/proc/self/fd"))
    short = Processes("radiobject_assets.imaging.pixels.decoder_program:answer", idle_s=0.05)
    handles = [short.take(), short.take()]
    pids = [handle.pid for handle in handles]
    for handle in handles:
        short.give(handle)
    assert _soon(lambda: not any(map(psutil.pid_exists, pids)))
    assert _soon(lambda: set(os.listdir("/proc/self/fd")) <= descriptors)
    assert short.idle_pids == []


def test_no_more_processes_wait_than_there_is_room_for() -> None:
    decoder_processes.start(3)
    pids = decoder_processes.idle_pids
    decoder_processes.end_idle(leave=1)
    assert decoder_processes.idle_pids == pids[-1:]
    assert not any(map(psutil.pid_exists, pids[:-1]))


def test_processes_end_with_the_one_that_started_them() -> None:
    script = _script("say(decode())")
    (pid,) = _numbers(script)
    assert script.wait(60) == 0
    assert not psutil.pid_exists(pid), "and it has waited for it"


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_processes_end_with_one_that_could_not_end_them(end: str) -> None:
    script = _script(f"say(decode()); {end}")
    (pid,) = _numbers(script)
    script.wait(60)
    assert _soon(lambda: _is_gone(pid))


def test_a_fork_has_processes_of_its_own_and_leaves_those_of_its_parent_alone() -> None:
    script = _script(
        """
first = decode()
child = os.fork()
if child == 0:
    assert decoder_processes.idle_pids == []
    say(first, decode())
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
say(first, decode())
"""
    )
    first, of_the_fork = _numbers(script)
    assert of_the_fork != first
    assert _numbers(script) == [first, first]
    assert script.wait(60) == 0
    assert not psutil.pid_exists(of_the_fork)


def test_a_fork_does_not_keep_its_parents_processes_alive() -> None:
    script = _script(
        """
pid = decode()
if os.fork() == 0:
    say(pid, os.getpid())
    time.sleep(600)
time.sleep(600)
"""
    )
    pid, fork = _numbers(script)
    try:
        assert not _is_gone(pid)
        script.kill()
        script.wait(60)
        assert _soon(lambda: _is_gone(pid))
        assert not _is_gone(fork)
    finally:
        os.kill(fork, signal.SIGKILL)
