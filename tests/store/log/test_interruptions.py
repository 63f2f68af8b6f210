"""Who interrupts a program just after its commit was made takes nothing of it away."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from radiobject_assets.store import RadiObject
from tests.store.conftest import put, voxels
from tests.store.log.jobs import stopped


def interrupted(job: object, store: str) -> str:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts the tests may have it ignored
    try:
        job(store)  # type: ignore[operator]  # it is a function
    except KeyboardInterrupt:
        return "interrupted"
    return "done"


def copy(store: str) -> None:
    RadiObject(store).write(store + "-copy")


def add(store: str) -> None:
    radi = RadiObject(store)
    radi.add_collection("second", radi.ct)


@pytest.mark.parametrize("job", [copy, add])
@pytest.mark.parametrize("where", ["/state.json", "/log/"])
def test_volumes_that_rows_name_stay_when_the_program_is_interrupted(
    store: str, job: object, where: str
) -> None:
    put(store, "ct", "anna", 1)
    last = where == "/log/"
    with stopped(interrupted, job, store, number=2 if last else 1, where=where) as process:
        os.kill(process.pid, signal.SIGINT)
        process.go_on()
        assert process.result() == "interrupted"
    uri = store + "-copy" if job is copy else store
    if Path(uri, "state.json").is_file() or list(Path(uri).glob("log/*/*.json")):
        radi = RadiObject(uri)
        for name in radi.collection_names:
            for volume in radi.collection(name):
                assert np.array_equal(volume.to_numpy(stored=True), voxels(1))
