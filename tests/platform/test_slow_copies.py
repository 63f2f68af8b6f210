"""Deliveries that come slowly: real copies by other processes, looked at while they go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from radiobject_assets.dataset.arrival_section import ArrivalsConfig
from radiobject_assets.landing.local_zone import LandingZone
from radiobject_assets.landing.settling import Seen
from radiobject_assets.landing.watching import look

QUIET_S = 3.0
N_FILES = 8
PACE = "0.3"
# one file after the other, each at once, as `cp -r` over a slow line: $1 into $2, $3 seconds between
COPY = """mkdir -p "$2/deep"
for f in $(cd "$1" && find . -type f | sort); do sleep "$3"; cp "$1/$f" "$2/$f"; done"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    for number in range(N_FILES):
        place = folder / "deep" if number % 2 else folder
        (place / f"IM{number}").write_bytes(bytes(200_000))
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return folder


@pytest.fixture
def zone(tmp_path: Path) -> LandingZone:
    (tmp_path / "landing").mkdir()
    return LandingZone(tmp_path / "landing", ArrivalsConfig(quiet_period_s=QUIET_S, trusted_names="[a-z]+"))


def watched(zone: LandingZone, command: Sequence[str]) -> list[int]:
    """Numbers of files of each settled version that is seen while a command runs, and shortly after."""
    settled: list[int] = []
    seen: dict[str, Seen] = {}
    with subprocess.Popen(command) as process:
        ended_s = None
        while ended_s is None or time.monotonic() - ended_s < QUIET_S + 1.5:
            if ended_s is None and process.poll() is not None:
                ended_s = time.monotonic()
            found = look(zone, seen, now_s=time.time())
            for key in found.settled:
                one, before = found.seen[key], seen.get(key)
                if before is None or not before.is_settled or before.version != one.version:
                    settled.append(one.n_files)
            seen = dict(found.seen)
            time.sleep(0.05)
    assert process.returncode == 0
    return settled


def test_a_slow_copy_is_taken_in_once_and_whole(zone: LandingZone, source: Path) -> None:
    copying = ["sh", "-c", COPY, "copy", str(source), str(zone.path / "drop"), PACE]
    assert watched(zone, copying) == [N_FILES]


@pytest.mark.slow
def test_a_marker_that_is_copied_in_the_middle_of_the_rest_does_not_speak_for_it(
    zone: LandingZone, source: Path
) -> None:
    (source / "_COMPLETE").touch()  # sorts before what is in `deep`, and after nothing else
    copying = ["sh", "-c", COPY, "copy", str(source), str(zone.path / "drop"), PACE]
    assert watched(zone, copying) == [N_FILES]


def test_a_delivery_that_grows_after_its_marker_is_quiet_before_it_is_taken_in_again(
    zone: LandingZone, source: Path
) -> None:
    first = zone.path / "drop"
    first.mkdir()
    (first / "IM-first").write_bytes(b"first")
    (first / "_COMPLETE").touch()
    copying = ["sh", "-c", f"sleep 4\n{COPY}", "copy", str(source), str(first), PACE]
    assert watched(zone, copying) == [1, N_FILES + 1]


def test_rsync_with_its_temporary_names_and_old_times(zone: LandingZone, source: Path) -> None:
    if (rsync := shutil.which("rsync")) is None:
        pytest.skip("rsync is not installed")
    (source / "_COMPLETE").touch()
    copying = [rsync, "-a", "--bwlimit=600", "--whole-file", f"{source}/", str(zone.path / "drop")]
    assert watched(zone, copying) == [N_FILES]


def test_an_archive_that_is_unpacked_in_place(zone: LandingZone, source: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "drop"), "zip", source)
    unpacking = (
        "import sys, time, zipfile\n"
        "with zipfile.ZipFile(sys.argv[1]) as archive:\n"
        "    for name in archive.namelist():\n"
        "        archive.extract(name, sys.argv[2]); time.sleep(0.3)\n"
    )
    assert watched(zone, [sys.executable, "-c", unpacking, packed, str(zone.path / "drop")]) == [N_FILES]


@pytest.mark.slow
def test_an_archive_that_grows(zone: LandingZone, source: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "drop"), "zip", source)
    growing = (
        "import sys, time\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "with open(sys.argv[2], 'wb', buffering=0) as file:\n"
        "    for at in range(0, len(data), len(data) // 8):\n"
        "        file.write(data[at:at + len(data) // 8]); time.sleep(0.3)\n"
    )
    assert watched(zone, [sys.executable, "-c", growing, packed, str(zone.path / "drop.zip")]) == [1]


@pytest.mark.slow
def test_one_large_file_that_grows_in_a_folder(zone: LandingZone) -> None:
    (zone.path / "drop").mkdir()
    growing = (
        "import sys, time\n"
        "with open(sys.argv[1], 'wb', buffering=0) as file:\n"
        "    for _ in range(10):\n"
        "        file.write(bytes(100_000)); time.sleep(1)\n"
    )
    seen: dict[str, Seen] = {}
    with subprocess.Popen([sys.executable, "-c", growing, str(zone.path / "drop" / "IM")]) as process:
        sizes = []
        while not sizes:
            found = look(zone, seen, now_s=time.time())
            sizes = [found.seen[key].n_bytes for key in found.settled]
            seen = dict(found.seen)
            time.sleep(0.05)
        assert process.poll() == 0
    assert sizes == [1_000_000]
