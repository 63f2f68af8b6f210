"""Frames decoded in processes of their own: the same pixels, and a codec that crashes fails alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import faulty_codec
import numpy as np
import pytest
from dicom_files import write_stack
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from radiobject_assets.errors import ConfigurationError, ImageReadError
from radiobject_assets.imaging import decoders as module
from radiobject_assets.imaging.coded_frames import CodedFrame, decode_frame
from radiobject_assets.imaging.decoders import Decoders
from radiobject_assets.imaging.pixels import PixelFile
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scan import scan


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


def test_a_codec_that_crashes_fails_its_frame_and_the_process_is_replaced(
    frames: list[CodedFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_codec.install(tmp_path / "faulty", monkeypatch)
    with Decoders(1) as crashing:
        before = crashing.submit(frames[0]).result()
        with pytest.raises(ImageReadError, match="exit code -6") as died:
            crashing.submit(replace(frames[0], rows=faulty_codec.CRASHES)).result()
        assert died.value.code == Reason.WORKER_DIED
        np.testing.assert_array_equal(crashing.submit(frames[0]).result(), before)


def test_a_codec_that_hangs_is_ended_after_its_time(
    frames: list[CodedFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_codec.install(tmp_path / "faulty", monkeypatch)
    with Decoders(1, frame_timeout_s=0.5) as hanging:
        with pytest.raises(ImageReadError) as hung:
            hanging.submit(replace(frames[0], rows=faulty_codec.HANGS)).result()
        assert hung.value.code == Reason.WORKER_TIMEOUT
        assert not hanging.pids


def test_a_process_that_cannot_start_is_told_as_such_and_not_as_a_bad_image(
    frames: list[CodedFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
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
