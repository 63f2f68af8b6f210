"""A worker that ends in the middle of a series takes that series with it, and nothing else."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.pixels.decoders import decoder_processes
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest import ingest_sources, run
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "imaging"))
import faulty_codec
from dicom_files import write_stack

HUFFMAN_TABLES, APPLICATION_DATA = b"\xff\xc4", b"\xff\xe0"


def _noise_frames(folder: Path, count: int) -> None:
    """A series of frames that take their decoder a while: one codestream, in every file."""
    noise = np.random.default_rng(1).integers(0, 60000, (count, 700, 700), dtype=np.uint16)
    coded = None
    for path in write_stack(folder, noise):
        ds = dcmread(path)
        if coded is None:
            ds.compress(JPEG2000Lossless, generate_instance_uid=False)
            coded = ds.PixelData
        else:
            ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
            ds.PixelData = coded
            ds["PixelData"].VR = "OB"
        ds.save_as(path)


def _kill_when(decodes: Callable[[psutil.Process], bool], killed: list[int], stop: threading.Event) -> None:
    """End the first child process for which `decodes` holds, as a codec that crashes would."""
    while not stop.wait(0.005):
        for process in psutil.Process().children(recursive=True):
            try:
                if decodes(process):
                    process.kill()
                    killed.append(process.pid)
                    return
            except psutil.Error:
                continue


def _reads_from(folder: Path) -> Callable[[psutil.Process], bool]:
    return lambda process: any(Path(file.path).parent == folder for file in process.open_files())


def test_a_worker_that_is_killed_while_it_decodes_is_reported_and_the_others_go_on(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "IN_PROCESS_BYTES", 0)
    landing = tmp_path / "landing"
    _noise_frames(landing / "victim", 40)
    for name in ("mr_comp_jpegls", "mr_hitachi_anat"):
        shutil.copytree(shared_data / "series" / name, landing / name, copy_function=shutil.copyfile)
    decodes = _reads_from(landing / "victim")
    killed: list[int] = []
    stop = threading.Event()
    killer = threading.Thread(target=_kill_when, args=(decodes, killed, stop))
    killer.start()
    try:
        report = ingest_sources(
            [landing],
            str(tmp_path / "store"),
            DatasetSettings(),
            budget=MemoryBudget(1024),
            compute=Compute(workers=2),
        )
    finally:
        stop.set()
        killer.join()
    assert killed
    (refused,) = [outcome for outcome in report.outcomes if outcome.verdict == "quarantined"]
    assert (refused.reason, refused.n_instances) == (Reason.WORKER_DIED, 40)
    assert [outcome.status for outcome in report.outcomes].count("written") == 2
    radi = RadiObject(str(tmp_path / "store"))
    assert sum(len(radi.collection(name)) for name in radi.collection_names) == 2


def test_a_codec_that_crashes_is_reported_and_the_other_series_go_on(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = tmp_path / "landing"
    faulty_codec.install(tmp_path / "faulty", monkeypatch)
    decoder_processes.end_idle()
    victim = np.random.default_rng(1).integers(0, 60000, (6, faulty_codec.CRASHES, 40), dtype=np.uint16)
    for path in write_stack(landing / "victim", victim):
        ds = dcmread(path)
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.save_as(path)
    for name in ("mr_comp_jpegls", "mr_hitachi_anat"):
        shutil.copytree(shared_data / "series" / name, landing / name, copy_function=shutil.copyfile)
    report = ingest_sources(
        [landing],
        str(tmp_path / "store"),
        DatasetSettings(),
        budget=MemoryBudget(1024),
        compute=Compute(workers=2),
    )
    decoder_processes.end_idle()  # the next test wants a codec that is well
    (refused,) = [outcome for outcome in report.outcomes if outcome.verdict == "quarantined"]
    assert (refused.reason, refused.n_instances) == (Reason.WORKER_DIED, 6)
    assert [outcome.status for outcome in report.outcomes].count("written") == 2


def test_a_frame_that_its_decoder_refuses_is_a_reason(shared_data: Path, tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    for name in ("mr_comp_jpegll", "mr_hitachi_anat"):
        shutil.copytree(shared_data / "series" / name, landing / name, copy_function=shutil.copyfile)
    path = sorted((landing / "mr_comp_jpegll").iterdir())[1]
    raw = bytearray(path.read_bytes())
    at = raw.find(HUFFMAN_TABLES, raw.find(b"\xff\xd8\xff\xc3"))
    raw[at : at + 2] = APPLICATION_DATA
    path.write_bytes(raw)
    report = ingest_sources(
        [landing],
        str(tmp_path / "store"),
        DatasetSettings(),
        budget=MemoryBudget(256),
        compute=Compute(workers=2),
    )
    (refused,) = [outcome for outcome in report.outcomes if outcome.verdict == "quarantined"]
    assert refused.reason in (Reason.DECODER_FAILED, Reason.WORKER_DIED)
    assert [outcome.status for outcome in report.outcomes].count("written") == 1
