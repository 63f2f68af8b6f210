"""pydicom without its warnings: they quote the values that they complain about, which may name a patient."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


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
