"""A child process of the campaign: does one operation after another and tells each before and after.

    ("begin", number, moment)            it is going to do this
    ("note", number, moment, text)       so far it is
    ("done", number, moment, result)     it was done
    ("error", number, moment, names, text, traceback)
    ("end",)

Moments are of the monotonic clock, which all processes of a machine share. Disturbances that lie in the
process itself (few descriptors, an account that may not write, a kill at the n-th file that it touches) are
set up here before the first operation.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pkgutil
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.store.campaign.operations import Operation, perform
from tests.store.campaign.reading import read_all

NOBODY = 65534


@dataclass(frozen=True)
class Setting:
    """How a child is to work."""

    uri: str
    errors: str
    """File for what it prints, and where its threads are when it hangs."""
    endpoint: str | None = None
    keys: tuple[str, str] | None = None
    deadline_s: float = 60.0
    kill_at_file: int | None = None
    """Kill itself at the n-th file operation of the first operation that Python knows of."""
    descriptors: int | None = None
    file_bytes: int | None = None
    """The most that a file may have: writing beyond it fails, as on a disk with a quota."""
    may_write: bool = True
    moment: int | None = None
    """Of an observer: a moment of the past to look at too, in milliseconds since 1970."""
    clock_s: float = 0.0
    """Seconds added to what Python takes for the time (where the system's clock cannot be set back)."""


def preload() -> None:
    """Import all that the operations need, so that a forked child begins at once."""
    package = import_module("radiobject_assets.store")
    for module in pkgutil.walk_packages(package.__path__, "radiobject_assets.store."):
        import_module(module.name)
    for name in ("nibabel", "pyarrow.parquet", "radiobject_assets.ingest.readers"):
        import_module(name)


def work(connection: Connection, setting: Setting, operations: Sequence[Operation]) -> None:
    """Do the operations; an error ends that operation and not the process."""
    prepare(setting)
    for number, operation in enumerate(operations):
        connection.send(("begin", number, time.monotonic()))

        def note(text: str, number: int = number) -> None:
            connection.send(("note", number, time.monotonic(), text))

        try:
            if number == 0 and setting.kill_at_file is not None:
                _kill_at_file(setting.kill_at_file)
            result = perform(setting.uri, operation, note)
        except BaseException as error:  # noqa: BLE001 - the campaign judges it
            names = [kind.__name__ for kind in type(error).__mro__]
            trace = "".join(traceback.format_exception(error))[-4000:]
            connection.send(("error", number, time.monotonic(), names, str(error), trace))
        else:
            connection.send(("done", number, time.monotonic(), result))
    connection.send(("end",))
    connection.close()


def observe(connection: Connection, setting: Setting) -> None:
    """Read everything, undisturbed."""
    prepare(setting)
    connection.send(("begin", 0, time.monotonic()))
    try:
        result = read_all(setting.uri, setting.moment)
    except BaseException as error:  # noqa: BLE001 - the campaign judges it
        names = [kind.__name__ for kind in type(error).__mro__]
        trace = "".join(traceback.format_exception(error))[-4000:]
        connection.send(("error", 0, time.monotonic(), names, str(error), trace))
    else:
        connection.send(("done", 0, time.monotonic(), result))
    connection.send(("end",))
    connection.close()


def prepare(setting: Setting) -> None:
    """Make this process what the setting says."""
    errors = Path(setting.errors).open("ab", buffering=0)  # noqa: SIM115 - until the process ends
    os.dup2(errors.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    faulthandler.enable(errors)
    faulthandler.register(signal.SIGUSR1, errors)
    if setting.endpoint is not None and setting.keys is not None:
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = setting.keys
        from radiobject_assets.store import S3Config, configure

        s3 = S3Config(
            endpoint=setting.endpoint,
            use_virtual_addressing=False,
            connect_timeout_ms=1000,
            request_timeout_ms=3000,
            max_tries=3,
            deadline_s=setting.deadline_s,
        )
        configure(s3=s3)
    if setting.clock_s:
        now, now_ns, add = time.time, time.time_ns, setting.clock_s
        time.time = lambda: now() + add
        time.time_ns = lambda: now_ns() + int(add * 1e9)
    if setting.descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (setting.descriptors, setting.descriptors))
    if setting.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (setting.file_bytes, setting.file_bytes))
    if not setting.may_write and os.geteuid() == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


# Events of `sys.addaudithook` that open, make, move or remove a file or folder, or connect to a server.
_TOUCHES = ("open", "os.", "shutil.", "socket.connect")


def _kill_at_file(number: int) -> None:
    left = number

    def count(event: str, _: tuple[Any, ...]) -> None:
        nonlocal left
        if event.startswith(_TOUCHES):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def main() -> None:
    """As a program of its own (under a clock that was set back): what to do comes by standard input."""
    with contextlib.suppress(BrokenPipeError, EOFError):
        channel = Connection(int(sys.argv[1]))
        setting, operations = channel.recv()
        work(channel, setting, operations)


if __name__ == "__main__":
    main()
