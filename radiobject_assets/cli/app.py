"""The `radiobject-assets` command: a thin face on the packages below.

Every command prints errors as one clear line (a traceback only with `--debug`), shows a progress bar on a
terminal and none in a pipe, and exits 0 when all is fine, 1 when problems were found, 2 when it could not
run (128 + the signal's number when it was stopped by one). `--json` prints exactly one JSON document on
stdout.

Here is how a command starts and ends; `cli.commands` has the commands.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from radiobject_assets.errors import RadiObjectError


class _StoppedError(BaseException):
    """SIGTERM: what is finished is committed, as after Ctrl-C. No `except Exception` takes it for its own."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise _StoppedError


def main() -> NoReturn:
    """Entry point: run the command and turn what goes wrong into one line and an exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, who wants to see nothing
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (open to the end)
        # file names may hold bytes that are no text in any encoding
        getattr(sys, name).reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _stop)
    debug = "--debug" in sys.argv[1:]
    try:
        code = _run([item for item in sys.argv[1:] if item != "--debug"])
        sys.stdout.flush()  # here, where a full disk can still be told
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except _StoppedError:
        _fail(f"Stopped. {_GO_ON}", 128 + signal.SIGTERM)
    except BrokenPipeError:  # the reader had enough, as `head` does; typer ends with 1 as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _fail(_in_one_line(error), 2)
    if code == _INTERRUPTED:  # what typer makes of a KeyboardInterrupt
        _fail(f"Interrupted. {_GO_ON}", _INTERRUPTED)
    sys.exit(code or 0)


_INTERRUPTED = 128 + signal.SIGINT
_GO_ON = "What was finished stays; the same command again does the rest."


def _run(arguments: Sequence[str]) -> int | None:
    """Run one command; its exit code, None for 0."""
    from radiobject_assets.cli.commands import app

    code: int | None = app(args=list(arguments), prog_name="radiobject-assets", standalone_mode=False)
    return code


def _in_one_line(error: Exception) -> str:
    if isinstance(error, RadiObjectError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    if hasattr(error, "format_message"):  # a usage error; typer carries its own click, so no class to import
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "radiobject-assets"
        message = str(error.format_message()).rstrip(".") or "name a command"
        return f"{message}. See: {command} --help"
    return f"{type(error).__name__}: {error} (this is a defect; run again with --debug to see where)"


def _fail(message: str, code: int) -> NoReturn:
    from rich.markup import escape

    from radiobject_assets.cli.output import err

    err.print(f"[red]error:[/red] {escape(message)}", highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
