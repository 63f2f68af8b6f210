"""What tests of archives share: a real Orthanc, real studies, and what is to be seen at an arrival."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from radiobject_assets.archives.whole_instances import is_cut
from radiobject_assets.phantom.cohort import make_subject
from tests.archives.orthanc import Orthanc, orthanc_program
from tests.conftest import PROJECT_ROOT

REAL = PROJECT_ROOT.parent / "shared" / "data" / "series"


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    if orthanc_program() is None:
        pytest.skip("Orthanc with DICOMweb is not installed (Debian: orthanc, orthanc-dicomweb)")
    server = Orthanc(tmp_path / "orthanc")
    server.start()
    yield server
    server.stop(signal.SIGKILL)  # an orderly end takes 3 s, and nobody looks at it


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Files of two people's studies, each of several series."""
    folder = tmp_path_factory.mktemp("phantoms")
    found = []
    for number in (1, 2):
        make_subject(folder, number, arrival=f"s{number}", shape=(48, 48, 24))
        found.append(_once(sorted((folder / f"s{number}").rglob("*"))))
    return found


@pytest.fixture(scope="session")
def real_series(tmp_path_factory: pytest.TempPathFactory, phantoms: list[list[Path]]) -> list[Path]:
    """Files of real images in several transfer syntaxes; phantoms where they are absent."""
    names = ("ct_philips_notilt", "mr_comp_j2k", "mr_comp_rle", "mr_siemens_xa30_enh_t1", "rt_rtstruct_refs")
    found = [f for name in names if (REAL / name).is_dir() for f in sorted((REAL / name).iterdir())]
    return _once(found) or phantoms[0]


def _once(files: list[Path]) -> list[Path]:
    """Of each instance one file, where it is whole: the phantoms have planted damage."""
    found = {}
    for file in files:
        if file.is_file() and file.open("rb").read(132)[128:] == b"DICM":
            dataset = pydicom.dcmread(file)
            if not is_cut(dataset) and "SOPInstanceUID" in dataset:
                found.setdefault(str(dataset.SOPInstanceUID), file)
    return list(found.values())


def uids(files: list[Path] | Path) -> dict[str, pydicom.Dataset]:
    """Data sets by SOPInstanceUID, of files or of all below a folder."""
    if isinstance(files, Path):
        files = [f for f in files.rglob("*.dcm") if ".archives" not in f.parts]
    read = [pydicom.dcmread(f) for f in files]
    found = {str(one.SOPInstanceUID): one for one in read}
    assert len(found) == len(read), "an instance is there twice"
    return found


def assert_same(there: dict[str, pydicom.Dataset], here: dict[str, pydicom.Dataset]) -> None:
    """Every instance has come, and nothing of it is different."""
    assert there.keys() == here.keys()
    for uid, one in there.items():
        other = here[uid]
        assert one.file_meta.TransferSyntaxUID == other.file_meta.TransferSyntaxUID
        assert one == other


def arrivals(landing: Path) -> list[Path]:
    """The arrivals that the platform would see."""
    return sorted(entry for entry in landing.iterdir() if not entry.name.startswith("."))
