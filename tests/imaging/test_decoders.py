"""Frames decoded in processes of their own: the same pixels, and a codec that crashes fails alone."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import faulty_codec
import numpy as np
import psutil
import pytest
from dicom_files import write_stack
from jpeg_ls import encode_buffer
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from radiobject_assets.errors import ConfigurationError, ImageReadError
from radiobject_assets.imaging.pixels.coded_frames import CodedFrame, decode_frame
from radiobject_assets.imaging.pixels.decoders import Decoders, decoder_processes
from radiobject_assets.imaging.pixels.pixel_data import PixelFile
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.scan import scan


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[CodedFrame]:
    folder = tmp_path_factory.mktemp("coded")
    noise = np.random.default_rng(3).integers(0, 4000, (3, 64, 48), dtype=np.uint16)
    for path in write_stack(folder, noise):
        ds = dcmread(path)
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.save_as(path)
    return [PixelFile(instance).coded(0) for instance in scan([folder]).instances]


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(1, frame_timeout_s=60) as started:
        yield started


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decoder processes with a codec that crashes and hangs on some frames."""
    faulty_codec.install(tmp_path / "faulty", monkeypatch)
    decoder_processes.end_idle()
    yield
    decoder_processes.end_idle()


def test_pixels_are_those_that_this_process_decodes(frames: list[CodedFrame], decoders: Decoders) -> None:
    results = [decoders.submit(frame) for frame in frames]
    for frame, result in zip(frames, results, strict=True):
        here, there = decode_frame(frame), result.result()
        assert here.dtype == there.dtype
        np.testing.assert_array_equal(here, there)


def test_a_frame_that_is_refused_says_why_and_the_process_goes_on(
    frames: list[CodedFrame], decoders: Decoders
) -> None:
    with pytest.raises(ImageReadError, match="the header says 48x65") as refused:
        decoders.submit(replace(frames[0], rows=65)).result()
    assert refused.value.code == Reason.SIZE_MISMATCH
    with pytest.raises(ImageReadError) as damaged:
        decoders.submit(replace(frames[0], data=frames[0].data[:200])).result()
    assert damaged.value.code == Reason.DECODER_FAILED
    assert decoders.submit(frames[1]).result().shape == (64, 48)


@pytest.mark.usefixtures("faulty")
def test_a_codec_that_crashes_fails_its_frame_and_the_process_is_replaced(frames: list[CodedFrame]) -> None:
    with Decoders(1) as crashing:
        before = crashing.submit(frames[0]).result()
        with pytest.raises(ImageReadError, match="exit code -6") as died:
            crashing.submit(replace(frames[0], rows=faulty_codec.CRASHES)).result()
        assert died.value.code == Reason.WORKER_DIED
        np.testing.assert_array_equal(crashing.submit(frames[0]).result(), before)


@pytest.mark.usefixtures("faulty")
def test_frames_that_wait_behind_one_that_crashes_are_decoded(frames: list[CodedFrame]) -> None:
    crash = replace(frames[0], rows=faulty_codec.CRASHES)
    given = [frames[0], crash, frames[1], crash, frames[2], frames[0]]
    with Decoders(1) as crashing:
        results = [crashing.submit(frame) for frame in given]
        for frame, result in zip(given, results, strict=True):
            if frame is crash:
                with pytest.raises(ImageReadError) as died:
                    result.result()
                assert died.value.code == Reason.WORKER_DIED
            else:
                np.testing.assert_array_equal(result.result(), decode_frame(frame))


@pytest.fixture
def small_files() -> Iterator[Callable[[], None]]:
    """Lets this process write files of a megabyte at most, also those in memory."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_after_a_frame_that_cannot_be_sent_no_other_is_taken_for_it(
    frames: list[CodedFrame], small_files: Callable[[], None]
) -> None:
    unsendable = replace(frames[1], data=frames[1].data + bytes(2 << 20))
    given = [frames[0], unsendable, frames[2], frames[0], unsendable, frames[1]]
    decoder_processes.end_idle()
    with Decoders(1, frame_timeout_s=60) as decoders:
        decoders.submit(frames[0]).result()
        small_files()
        results = [decoders.submit(frame) for frame in given]
        for frame, result in zip(given, results, strict=True):
            if frame is unsendable:
                with contextlib.suppress(ImageReadError):  # a process started since has no files in memory
                    np.testing.assert_array_equal(result.result(), decode_frame(frame))
            else:
                np.testing.assert_array_equal(result.result(), decode_frame(frame))


@pytest.mark.usefixtures("faulty")
def test_a_codec_that_hangs_is_ended_after_its_time(frames: list[CodedFrame]) -> None:
    with Decoders(1, frame_timeout_s=0.5) as hanging:
        hanging.start()
        (pid,) = decoder_processes.idle_pids
        with pytest.raises(ImageReadError) as hung:
            hanging.submit(replace(frames[0], rows=faulty_codec.HANGS)).result()
        assert hung.value.code == Reason.WORKER_TIMEOUT
        assert not psutil.pid_exists(pid)


@pytest.mark.usefixtures("faulty")
def test_a_process_that_is_at_work_when_decoding_stops_is_ended_and_not_kept(
    frames: list[CodedFrame],
) -> None:
    with Decoders(1) as stopped:
        stopped.submit(frames[0]).result()
        (pid,) = decoder_processes.idle_pids
        hanging = stopped.submit(replace(frames[0], rows=faulty_codec.HANGS))
        waiting = stopped.submit(frames[1])
        while decoder_processes.idle_pids:
            time.sleep(0.01)
    with pytest.raises(ImageReadError) as ended:
        hanging.result()
    assert ended.value.code == Reason.WORKER_DIED
    with pytest.raises((CancelledError, ImageReadError)):
        waiting.result(timeout=10)
    assert not psutil.pid_exists(pid)
    assert decoder_processes.idle_pids == []


def test_pixels_are_the_same_where_there_are_no_files_in_memory(
    frames: list[CodedFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    decoder_processes.end_idle()
    with Decoders(1) as decoders:
        results = [decoders.submit(frame) for frame in frames]
        for frame, result in zip(frames, results, strict=True):
            np.testing.assert_array_equal(result.result(), decode_frame(frame))
    decoder_processes.end_idle()


def test_a_large_frame_leaves_no_memory_behind() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 60000, (2100, 2100), dtype=np.uint16)
    planes = [pixels, pixels.T.copy()]
    with Decoders(1) as decoders:
        for plane in planes:
            coded = CodedFrame(
                bytes(encode_buffer(plane.tobytes(), *plane.shape, 1, 16)), 1, str(JPEGLSLossless),
                *plane.shape, 1, 0, "MONOCHROME2", 16, 16, False,
            )  # fmt: skip
            np.testing.assert_array_equal(decoders.submit(coded).result(), plane)
    held = [os.stat(f"/proc/self/fd/{name}") for name in _files_in_memory()]
    assert sum(file.st_size for file in held) < plane.nbytes


def _files_in_memory() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "memfd:" in os.readlink(f"/proc/self/fd/{name}"):
                found.append(name)
    return found


def test_a_process_that_cannot_start_is_told_as_such_and_not_as_a_bad_image(
    frames: list[CodedFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder_processes.end_idle()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Decoders(1) as broken, pytest.raises(ConfigurationError, match="does not start"):
        broken.submit(frames[0]).result()


def test_a_script_without_a_main_guard_reads_compressed_images(
    frames: list[CodedFrame], tmp_path: Path
) -> None:
    assert frames
    noise = np.random.default_rng(4).integers(0, 4000, (4, 32, 32), dtype=np.uint16)
    for path in write_stack(tmp_path / "series", noise):
        ds = dcmread(path)
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.save_as(path)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from radiobject_assets.ingest.readers import open_dicom\n"
        "(source,) = open_dicom(sys.argv[1])\n"
        "print(sum(int(slab.voxels.sum()) for slab in source.slabs(2)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "series")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == int(noise.sum(dtype=np.int64))
    assert done.stderr == ""
