"""What a process tree takes of the machine while it works: memory, open files, processor, disk, network,
/dev/shm, and the GPU where there is one.

Memory is the proportional set size: a page that several processes share counts once, divided among them, so
that eight forked workers are not eight times their parent. The kernel walks page tables for it, milliseconds
for a large process, so it is asked about once a second and whenever a process came or went. In between, 20
times a second, what the resident size has grown by since is added, and of a process that came what is its
own. The monitor waits longer where looking takes longer and so stays below one hundredth of a core
(`benchmarks/monitor.py`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType

from radiobject_assets.system.memory import MB, tree_resident_bytes

_MOST_SAMPLES = 1200
# Where processes come and go all the time, asking is followed by so many times its cost.
_REST_OF_CHANGES = 20
_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class ResourceSample:
    """The tree at one moment. What is counted up (`cpu_s`, disk, network) counts from the monitor's start."""

    at_s: float
    memory_mb: float
    processes: int
    open_files: int
    """Of the process that has most: the limit is one for each process."""
    cpu_s: float
    disk_read_mb: float
    disk_written_mb: float
    network_mb: float
    """Received and sent by the machine (or container), not by the tree alone."""
    shared_memory_mb: float
    """Used of /dev/shm, by anybody."""
    gpu_mb: float | None = None


class ResourceMonitor:
    """Context manager that watches a process tree from a thread of its own.

    Parameters
    ----------
    pid
        Root of the tree; this process by default.
    look_s
        Seconds between two looks at memory, at least.
    sample_s
        Seconds between two samples of everything. After some hundreds every second one is dropped and the
        time between them doubles, so that a run of days has as many as one of minutes.
    share
        Of the time of one core, what looking may take.
    on_memory
        Called from the monitor's thread with the memory in MiB after each look.

    >>> with ResourceMonitor() as monitor:
    ...     data = bytearray(10_000_000)
    >>> monitor.peak_mb > 0
    True
    """

    def __init__(
        self,
        pid: int | None = None,
        *,
        look_s: float = 0.05,
        sample_s: float = 1.0,
        share: float = 0.004,
        on_memory: Callable[[float], None] | None = None,
    ) -> None:
        self._pid = pid or os.getpid()
        self._look_s, self._sample_s = look_s, sample_s
        self._on_memory, self._rest = on_memory, 1 / share
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._memory = _TreeMemory(self._pid, 2 / share)
        self._counters = _Counters(self._pid)
        self._samples: list[ResourceSample] = []
        self._started = time.monotonic()
        self._first_mb = self._peak_mb = 0.0

    def __enter__(self) -> ResourceMonitor:
        self._started = time.monotonic()
        self._first_mb = self._peak_mb = self._memory.now_mb()
        self._sample()
        self._thread = threading.Thread(target=self._watch, name="resource-monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._look()
        self._sample()

    def _watch(self) -> None:
        rest, sampled = self._look_s, time.monotonic()
        while not self._stop.wait(rest):
            begun = time.thread_time()
            self._look()
            # asking for the proportional size costs far more, and spaces itself: looks must not wait for it
            cost_s = time.thread_time() - begun - self._memory.asking_s
            if time.monotonic() - sampled >= self._sample_s:
                self._sample()
                sampled = time.monotonic()
            rest = max(self._look_s, self._rest * cost_s)

    def _look(self) -> None:
        now = self._memory.now_mb()
        self._peak_mb = max(self._peak_mb, now)
        if self._on_memory is not None:
            self._on_memory(now)

    def _sample(self) -> None:
        pids = self._memory.pids
        if self._samples and not pids:
            return  # the tree is gone
        at_s = round(time.monotonic() - self._started, 2)
        self._samples.append(self._counters.sample(at_s, self._memory.last_mb, pids))
        if len(self._samples) >= _MOST_SAMPLES:
            self._samples = self._samples[::2]
            self._sample_s *= 2

    @property
    def samples(self) -> tuple[ResourceSample, ...]:
        """The tree over time, oldest first."""
        return tuple(self._samples)

    @property
    def peak_mb(self) -> float:
        """Most memory of the tree, in MiB, interpreters and libraries included."""
        return round(self._peak_mb, 1)

    @property
    def grown_mb(self) -> float:
        """Most memory of the tree above the level at entry, in MiB."""
        return round(self._peak_mb - self._first_mb, 1)

    def peaks(self) -> dict[str, float]:
        """The most of each figure of a sample, by its name; memory is that of all looks."""
        most = {
            field.name: max(values)
            for field in fields(ResourceSample)
            if (values := [v for one in self.samples if (v := getattr(one, field.name)) is not None])
        }
        return {**most, "memory_mb": max(self.peak_mb, most.get("memory_mb", 0.0))}


def sample_rows(samples: tuple[ResourceSample, ...]) -> list[dict[str, float | None]]:
    """Samples as plain rows, for a table or JSON."""
    return [asdict(one) for one in samples]


class _TreeMemory:
    """Proportional set size of a tree: asked of the kernel now and then, carried on by the resident size."""

    def __init__(self, pid: int, rest: float) -> None:
        self._pid, self._rest = pid, rest
        self._resident: dict[int, int] = {}
        self._proportional: dict[int, int] = {}
        self._asked_of: frozenset[int] = frozenset()
        self._asked = self._cost_s = self._asked_new = self._new_cost_s = 0.0
        self.asking_s = 0.0
        """Of the last look: what went into asking the kernel."""
        self.last_mb = 0.0
        self.pids: tuple[int, ...] = ()

    def now_mb(self) -> float:
        resident = tree_resident_bytes(self._pid)
        self.pids = tuple(resident)
        since = time.monotonic() - self._asked
        is_changed = resident.keys() != self._asked_of and since > _REST_OF_CHANGES * self._cost_s
        self.asking_s = 0.0
        if is_changed or since > max(1.0, self._rest * self._cost_s):
            begun = time.thread_time()
            self._proportional = {pid: proportional_bytes(pid, size) for pid, size in resident.items()}
            self._resident, self._asked_of = resident, frozenset(resident)
            self.asking_s = self._cost_s = time.thread_time() - begun
            self._asked = time.monotonic()
        elif new := resident.keys() - self._proportional.keys():
            self._ask_of_new({pid: resident[pid] for pid in new})
        total = sum(
            max(0, self._proportional[pid] + size - self._resident[pid])
            for pid, size in resident.items()
            if pid in self._proportional
        )
        self.last_mb = round(total / MB, 1)
        return self.last_mb

    def _ask_of_new(self, resident: dict[int, int]) -> None:
        """Of processes that came since all were asked: what is their own. Shared pages are counted already.

        They may be gone before all are asked again, which takes long where one of them is large.
        """
        if time.monotonic() - self._asked_new < _REST_OF_CHANGES * self._new_cost_s:
            return
        begun = time.thread_time()
        for pid, size in resident.items():
            self._proportional[pid], self._resident[pid] = _private_bytes(pid, size), size
        self.asking_s = self._new_cost_s = time.thread_time() - begun
        self._asked_new = time.monotonic()


def proportional_bytes(pid: int, resident_bytes: int) -> int:
    """Proportional set size of one process; where the kernel does not say it, what is resident."""
    return _rolled_up(pid, ("Pss:",), resident_bytes)


def _private_bytes(pid: int, resident_bytes: int) -> int:
    """What no other process shares; where the kernel does not say it, what is resident."""
    return _rolled_up(pid, ("Private_Clean:", "Private_Dirty:"), resident_bytes)


def _rolled_up(pid: int, names: tuple[str, ...], otherwise: int) -> int:
    try:
        lines = [line.split() for line in _text(f"/proc/{pid}/smaps_rollup").splitlines()]
        found = [int(line[1]) * 1024 for line in lines if line and line[0] in names]
    except (OSError, ValueError, IndexError):
        return otherwise  # another system, another user's process, or one that has just ended
    return sum(found) if found else otherwise


class _Counters:
    """What the kernel counts of processes, as a difference to the first look; the dead keep their last."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._read: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._cpu: dict[int, float] = {}
        self._first: tuple[float, float, float, float] | None = None
        self._gpus = _Gpus()

    def sample(self, at_s: float, memory_mb: float, pids: tuple[int, ...]) -> ResourceSample:
        open_files = 0
        for pid in pids:
            with contextlib.suppress(OSError, ValueError, IndexError):
                open_files = max(open_files, len(os.listdir(f"/proc/{pid}/fd")))
                self._cpu[pid] = _processor_s(_text(f"/proc/{pid}/stat"))
                told = dict(line.split(": ") for line in _text(f"/proc/{pid}/io").splitlines())
                self._read[pid], self._written[pid] = int(told["read_bytes"]), int(told["write_bytes"])
        now = (
            sum(self._cpu.values()),
            sum(self._read.values()) / MB,
            sum(self._written.values()) / MB,
            _network_bytes() / MB,
        )
        self._first = self._first or now
        cpu, read, written, network = (
            round(max(0.0, value - first), 2) for value, first in zip(now, self._first, strict=True)
        )
        return ResourceSample(
            at_s, memory_mb, len(pids), open_files, cpu, read, written, network, shared_memory_mb(),
            self._gpus.used_mb(),
        )  # fmt: skip


def _processor_s(stat: str) -> float:
    """Seconds of processor time, from /proc/PID/stat: the name before the last bracket may hold anything."""
    values = stat.rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def _network_bytes() -> int:
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _text("/proc/net/dev").splitlines()[2:]:
            name, _, counts = line.partition(":")
            if name.strip() != "lo":
                values = counts.split()
                total += int(values[0]) + int(values[8])
    return total


def shared_memory_mb() -> float:
    """MiB used of /dev/shm, through which workers hand over tensors; 0 where there is none."""
    try:
        return round(shutil.disk_usage(_SHARED_MEMORY).used / MB, 1)
    except OSError:
        return 0.0


def shared_memory_limit_mb() -> float | None:
    """MiB that fit into /dev/shm; None where there is none."""
    try:
        return round(shutil.disk_usage(_SHARED_MEMORY).total / MB, 1)
    except OSError:
        return None


class _Gpus:
    """Memory in use on NVIDIA's GPUs, where there are some and `nvidia-ml-py` is installed."""

    def __init__(self) -> None:
        self._used: Callable[[], float] | None = None
        if Path("/dev/nvidiactl").exists():
            with contextlib.suppress(Exception):  # whatever a driver of another version says
                self._used = _used_by_nvml()

    def used_mb(self) -> float | None:
        if self._used is None:
            return None
        try:
            return self._used()
        except Exception:  # noqa: BLE001  (a GPU that falls off the bus is no error of the work)
            return None


def _used_by_nvml() -> Callable[[], float]:
    import pynvml

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
    return lambda: round(sum(pynvml.nvmlDeviceGetMemoryInfo(one).used for one in handles) / MB, 1)


def _text(path: str) -> str:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        return os.read(handle, 1 << 16).decode("ascii", "replace")
    finally:
        os.close(handle)
