"""Ingest of one CT series, side by side: `python -m benchmarks.ingest`.

A phantom CT of 120 slices of 512x512 (signed 16-bit, realistic noise) is read from classic DICOM (or another
form: `--source`) and written in each tool's own way. Every output is checked against the phantom's truth
through world coordinates, and where the output can be read in part, random 64^3 regions are read from it.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Contender, InProcess, WholeProcess, compare, show, wide_console, write_json
from benchmarks.sources import CLASSIC, ENHANCED, NIFTI, SOURCES, make_source

if TYPE_CHECKING:
    from radiobject_assets.phantom.truth import VolumeTruth
    from radiobject_assets.store import Volume

COLUMNS = {
    "name": "what",
    "kind": "measured as",
    "median_s": "median s",
    "min_s": "min s",
    "max_s": "max s",
    "peak_rss_mb": "peak MB",
    "output_bytes": "bytes out",
    "largest_difference": "largest error",
    "patch_ms": "64^3 read ms",
}
OURS_IN_PROCESS = "radiobject-assets, call"
OURS_COMMAND = "radiobject-assets ingest"
DCM2NIIX_GZ = "dcm2niix -z y"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, print it, write results/ingest.json."""
    # Not at the top: every warm process imports this module, and would carry what it never uses.
    from radiobject_assets.phantom.cohort import make_ct_series

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (5 or more, to be quoted)")
    parser.add_argument("--memory-rounds", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument(
        "--source", choices=SOURCES, default=CLASSIC, help="the form that the series comes in"
    )
    parser.add_argument("--results", type=Path, default=None, help="folder for the JSON")
    parser.add_argument("--only", default="", help="comma-separated parts of names: run these only")
    chosen = parser.parse_args(arguments)
    console = wide_console()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        work_dir = Path(folder)
        dicom = work_dir / "dicom"
        series = make_ct_series(dicom, shape=(chosen.size, chosen.size, chosen.slices))
        assert series.volume is not None
        source = make_source(dicom, chosen.source, work_dir / chosen.source)
        if chosen.source == NIFTI:
            source = _nifti_source(dicom, work_dir)
        contenders, skipped = _contenders(source, work_dir, series.volume, chosen.only, chosen.source)
        for reason in skipped:
            console.print(f"left out: {reason}", style="yellow")
        try:
            measured, failed = compare(
                contenders,
                work_dir,
                rounds=chosen.rounds,
                memory_rounds=chosen.memory_rounds,
                regions=_regions(series.volume.shape),
                console=console,
            )
        finally:
            for contender in contenders:
                contender.runner.close()
    rows = [one.row() for one in measured]
    title = (
        f"{chosen.slices} CT slices of {chosen.size}x{chosen.size}, {chosen.source}, {chosen.rounds} rounds"
    )
    show(title, rows, COLUMNS, console)
    ratios = _ratios(rows)
    for text, ratio in ratios.items():
        console.print(f"{text}: {ratio:.1f}x")
    document = {
        "benchmark": "ingest of one CT series",
        "source": chosen.source,
        "shape": [chosen.size, chosen.size, chosen.slices],
        "input_bytes": chosen.size * chosen.size * chosen.slices * 2,
        "rows": rows,
        "ratios": {text: round(ratio, 2) for text, ratio in ratios.items()},
        "left_out": skipped + [reason.splitlines()[0] for reason in failed],
    }
    name = "ingest" if chosen.source == CLASSIC else f"ingest-{chosen.source}"
    write_json(name, document, *([chosen.results] if chosen.results else []))
    return 1 if failed else 0


def _contenders(
    dicom: Path, work_dir: Path, truth: VolumeTruth, only: str, source: str
) -> tuple[list[Contender], list[str]]:
    """The contenders that can run here, and a reason for each that can't."""
    wanted = [part.strip() for part in only.split(",") if part.strip()]
    contenders: list[Contender] = []
    skipped: list[str] = []

    def offer(name: str, missing: str | None, make: Callable[[], Contender]) -> None:
        if wanted and not any(part in name for part in wanted):
            return
        if missing:
            skipped.append(f"{name}: {missing}")
        else:
            contenders.append(make())

    store = partial(_check_store, truth)
    nifti = partial(_check_nifti, truth)
    offer(
        OURS_IN_PROCESS,
        None,
        lambda: Contender(InProcess(OURS_IN_PROCESS, partial(ingest_here, dicom)), store, _read_store),
    )
    command = [sys.executable, "-m", "radiobject_assets.cli", "ingest", str(dicom), "--json", "--store"]
    offer(
        OURS_COMMAND,
        None,
        lambda: Contender(
            WholeProcess(OURS_COMMAND, lambda out: [*command, str(out / "store")]), store, _read_store
        ),
    )
    program = None if source == NIFTI else dcm2niix_program()
    no_program = "reads DICOM only" if source == NIFTI else "the program is not installed"
    for name, flag in ((DCM2NIIX_GZ, "y"), ("dcm2niix -z n", "n")):
        offer(
            name,
            None if program else no_program,
            lambda name=name, flag=flag: Contender(
                WholeProcess(
                    name, lambda out: [str(program), "-z", flag, "-f", "ct", "-o", str(out), str(dicom)]
                ),
                nifti,
                _read_nifti,
            ),
        )
    for suffix in (".nii.gz", ".nii"):
        offer(
            f"SimpleITK to {suffix}",
            _absent("SimpleITK"),
            lambda suffix=suffix: Contender(
                InProcess(f"SimpleITK to {suffix}", partial(convert_with_simpleitk, dicom, source, suffix)),
                nifti,
                _read_nifti,
            ),
        )
    offer(
        "dicom2nifti to .nii.gz",
        no_program if source == NIFTI else _absent("dicom2nifti"),
        lambda: Contender(
            InProcess("dicom2nifti to .nii.gz", partial(convert_with_dicom2nifti, dicom)), nifti, _read_nifti
        ),
    )

    def radiobject() -> Contender:
        nifti_file = dicom / "ct.nii.gz" if source == NIFTI else _nifti_source(dicom, work_dir) / "ct.nii.gz"
        return Contender(
            InProcess("RadiObject from .nii.gz", partial(ingest_nifti_with_radiobject, nifti_file)),
            note="starts from a .nii.gz that dcm2niix made",
        )

    offer(
        "RadiObject from .nii.gz",
        _absent("radiobject")
        or (None if dcm2niix_program() else "dcm2niix, which makes its input, is not installed"),
        radiobject,
    )
    offer(
        "RadiObject from DICOM",
        {NIFTI: "its input is NIfTI here", ENHANCED: "it does not read multi-frame objects"}.get(source)
        or _absent("radiobject"),
        lambda: Contender(InProcess("RadiObject from DICOM", partial(ingest_dicom_with_radiobject, dicom))),
    )
    return contenders, skipped


def dcm2niix_program() -> str | None:
    return shutil.which("dcm2niix") or shutil.which("dcm2niix", path=str(Path(sys.executable).parent))


def _nifti_source(dicom: Path, work_dir: Path) -> Path:
    """A folder with the series as `.nii.gz`, made by dcm2niix."""
    folder = work_dir / "source"
    folder.mkdir(exist_ok=True)
    command = [str(dcm2niix_program()), "-z", "y", "-b", "n", "-f", "ct", "-o", str(folder), str(dicom)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def _absent(package: str) -> str | None:
    return None if importlib.util.find_spec(package) else f"the package {package} is not installed"


def _ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How much faster ours is than each peer that is measured the same way, and than `dcm2niix -z y`."""
    seconds = {row["name"]: (row["median_s"], row["kind"]) for row in rows}
    found = {}
    for own in (OURS_IN_PROCESS, OURS_COMMAND):
        for name, (peer_s, kind) in seconds.items():
            if own in seconds and name not in (OURS_IN_PROCESS, OURS_COMMAND):
                own_s, own_kind = seconds[own]
                if kind == own_kind or name == DCM2NIIX_GZ:
                    found[f"{own} against {name}"] = peer_s / own_s
    return found


def _regions(shape: tuple[int, int, int], count: int = 30) -> list[tuple[slice, ...]]:
    rng = np.random.default_rng(0)
    size = [min(64, n) for n in shape]
    starts = [rng.integers(0, n - s + 1, count) for n, s in zip(shape, size, strict=True)]
    return [
        tuple(slice(int(start), int(start) + s) for start, s in zip(point, size, strict=True))
        for point in zip(*starts, strict=True)
    ]


# What the warm processes call; module-level, so that they can be sent there.


def ingest_here(dicom: Path, out: Path) -> None:
    """Scan, plan and ingest, as `radiobject-assets ingest` does once its imports are done."""
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings
    from radiobject_assets.ingest import ingest_sources
    from radiobject_assets.system.compute import Compute
    from radiobject_assets.system.memory import MemoryBudget

    report = ingest_sources(
        [dicom], str(out / "store"), DatasetSettings(), budget=MemoryBudget(), compute=Compute()
    )
    if report.counts.get("written") != 1:
        raise RuntimeError(f"expected one volume: {report.counts}")


def convert_with_simpleitk(source: Path, kind: str, suffix: str, out: Path) -> None:
    """Read a series (or one file) with SimpleITK and write NIfTI."""
    import SimpleITK as sitk

    if kind in (NIFTI, ENHANCED):
        (path,) = source.iterdir()
        image = sitk.ReadImage(str(path))
    else:
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(source)))
    sitk.WriteImage(image, str(out / f"ct{suffix}"), useCompression=suffix.endswith(".gz"))


def convert_with_dicom2nifti(dicom: Path, out: Path) -> None:
    """Convert with dicom2nifti, keeping the orientation as it is."""
    import dicom2nifti

    dicom2nifti.dicom_series_to_nifti(str(dicom), str(out / "ct.nii.gz"), reorient_nifti=False)


def ingest_nifti_with_radiobject(nifti: Path, out: Path) -> None:
    """RadiObject's own bulk way in, from a NIfTI that another tool made."""
    from radiobject import RadiObject

    # `from_images` in its newest sources, `from_niftis` in the released 0.1.1.
    load = getattr(RadiObject, "from_images", None) or RadiObject.from_niftis
    load(str(out / "store"), images={"ct": [(str(nifti), "subject")]})


def ingest_dicom_with_radiobject(dicom: Path, out: Path) -> None:
    """RadiObject from the same DICOM folder."""
    from radiobject import RadiObject

    if hasattr(RadiObject, "from_images"):
        RadiObject.from_images(str(out / "store"), images={"ct": [(str(dicom), "subject")]})
    else:
        RadiObject.from_dicoms(str(out / "store"), dicom_dirs=[(str(dicom), "subject")])


# How an output is checked and read.


def _check_nifti(truth: VolumeTruth, out: Path) -> float:
    import nibabel as nib

    (path,) = out.glob("ct*.nii*")
    image = nib.load(path)
    return truth.largest_difference(np.asarray(image.dataobj), image.affine, tolerance_mm=0.02)


def _check_store(truth: VolumeTruth, out: Path) -> float:
    volume = _only_volume(out)
    return truth.largest_difference(volume.to_numpy(), volume.affine)


def _only_volume(out: Path) -> Volume:
    from radiobject_assets.store import RadiObject

    dataset = RadiObject(str(out / "store"))
    (name,) = dataset.collection_names
    (volume,) = dataset.collection(name)
    return volume


def _read_store(out: Path) -> Callable[[Sequence[slice]], Any]:
    volume = _only_volume(out)
    return lambda region: volume[tuple(region)]


def _read_nifti(out: Path) -> Callable[[Sequence[slice]], Any]:
    import nibabel as nib

    (path,) = out.glob("ct*.nii*")
    image = nib.load(path)
    return lambda region: np.asarray(image.dataobj[tuple(region)])


if __name__ == "__main__":
    sys.exit(main())
