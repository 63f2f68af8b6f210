"""pydicom without its warnings: they quote the values that they complain about, which may name a patient.

And C libraries without their chatter on the file descriptor of stderr.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_stderr_lock = threading.Lock()


@contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Send what the process writes to file descriptor 2 nowhere: for a short call into a library."""
    with _stderr_lock:
        try:
            kept = os.dup(2)
        except OSError:  # stderr is closed: nothing can be printed
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


@contextmanager
def pydicom_quietly() -> Iterator[None]:
    """Run pydicom without validation, warnings and log records: what is wrong gets a verdict instead."""
    import pydicom.config

    logger = logging.getLogger("pydicom")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled
