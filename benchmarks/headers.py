"""Reading many DICOM headers, side by side: `python -m benchmarks.headers`.

20,000 small CT files (200 series of 100) are made by patching UIDs, instance number and position in the
bytes of one file, scanned, and deleted.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

from benchmarks.measure import Contender, InProcess, compare, show, wide_console, write_json

SLICES_PER_SERIES = 100
COLUMNS = {
    "name": "what",
    "median_s": "median s",
    "files_per_s": "files a second",
    "peak_rss_mb": "peak MB",
}
_PREFIX = "1.2.826.0.1.3680043.8.498."
_INSTANCE = f"{_PREFIX}{'7' * 20}"
_SERIES = f"{_PREFIX}{'8' * 20}"
_POSITION = "-0777.77"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, print it, write results/headers.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument(
        "--header",
        type=Path,
        default=None,
        help="a DICOM CT or MR file whose header is copied, not the phantom's",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-rounds", type=int, default=1)
    parser.add_argument("--results", type=Path, default=None, help="folder for the JSON")
    chosen = parser.parse_args(arguments)
    console = wide_console()
    skipped: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-headers-") as folder:
        work_dir = Path(folder)
        files = work_dir / "files"
        make_files(files, chosen.files, chosen.header)
        header_bytes = next(files.rglob("*/*")).stat().st_size
        few = min(chosen.files, 2_000)
        contenders = [
            Contender(InProcess("radiobject-assets, scan", partial(scan_here, files, False))),
            Contender(InProcess("radiobject-assets, scan + series", partial(scan_here, files, True))),
            Contender(
                InProcess("pydicom dcmread", partial(read_with_pydicom, files, few)), note=f"{few} files"
            ),
        ]
        if importlib.util.find_spec("gdcm"):
            contenders.append(Contender(InProcess("gdcm.Scanner, 12 tags", partial(scan_with_gdcm, files))))
        else:
            skipped.append("gdcm.Scanner: the package python-gdcm is not installed")
        try:
            measured, failed = compare(
                contenders,
                work_dir,
                rounds=chosen.rounds,
                memory_rounds=chosen.memory_rounds,
                console=console,
            )
        finally:
            for contender in contenders:
                contender.runner.close()
    rows = []
    for one in measured:
        row = one.row()
        read = few if one.note else chosen.files
        rows.append({**row, "files": read, "files_per_s": round(read / row["median_s"])})
    show(f"headers of {chosen.files:,} files, {chosen.rounds} rounds", rows, COLUMNS, console)
    skipped += [reason.splitlines()[0] for reason in failed]
    document = {
        "benchmark": "header scan",
        "files": chosen.files,
        "header_bytes": header_bytes,
        "rows": rows,
        "left_out": skipped,
    }
    write_json("headers", document, *([chosen.results] if chosen.results else []))
    return 1 if failed else 0


def make_files(folder: Path, count: int, header: Path | None = None) -> None:
    """Write `count` small valid CT files, 100 to a series, each series in a folder of its own."""
    template = _template(folder.parent / "template", header)
    places = {text: _positions(template, text.encode()) for text in (_INSTANCE, _SERIES, _POSITION)}
    for number in range(count):
        series, index = divmod(number, SLICES_PER_SERIES)
        content = bytearray(template)
        for text, value in (
            (_INSTANCE, f"{_PREFIX}{10**19 + number}"),
            (_SERIES, f"{_PREFIX}{2 * 10**19 + series}"),
            (_POSITION, f"{index * 2.5:08.2f}"),
        ):
            for place in places[text]:
                content[place : place + len(text)] = value.encode()
        target = folder / f"{series:05d}"
        if index == 0:
            target.mkdir(parents=True)
        (target / f"{number:08d}").write_bytes(content)


def _template(folder: Path, header: Path | None) -> bytes:
    """A complete header over 8x8 pixels, with values of fixed length to be patched."""
    # Not at the top: every warm process imports this module, and would carry what it never uses.
    import pydicom

    from radiobject_assets.phantom.cohort import make_ct_series

    if header is None:
        make_ct_series(folder, shape=(48, 48, 24))
        header = sorted(folder.iterdir())[0]
    dataset = pydicom.dcmread(header)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _INSTANCE
    dataset.SeriesInstanceUID = _SERIES
    x, y, _ = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [str(x), str(y), _POSITION]
    dataset.Rows = dataset.Columns = 8
    dataset.PixelData = bytes(128)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _positions(content: bytes, text: bytes) -> list[int]:
    found, start = [], content.find(text)
    while start >= 0:
        found.append(start)
        start = content.find(text, start + 1)
    return found


def scan_here(files: Path, with_series: bool, _out: Path) -> None:
    """Our scan, and on request the grouping into series with their verdicts."""
    from radiobject_assets.imaging.scanning.scan import scan
    from radiobject_assets.imaging.series.series_building import build_series

    found = scan([files])
    if found.unreadable:
        raise RuntimeError(f"{len(found.unreadable)} files unreadable, first: {found.unreadable[0].reason}")
    if with_series:
        bad = [series for series in build_series(found) if series.verdict != "ingestable"]
        if bad:
            raise RuntimeError(f"{len(bad)} series quarantined, first: {bad[0].reason} {bad[0].detail}")


def read_with_pydicom(files: Path, count: int, _out: Path) -> None:
    """pydicom in one thread, pixels left unread; over a part of the files, as it is slow."""
    import pydicom

    for path in sorted(files.rglob("*/*"))[:count]:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        _ = (header.SOPInstanceUID, header.SeriesInstanceUID, header.ImagePositionPatient)


def scan_with_gdcm(files: Path, _out: Path) -> None:
    """gdcm's Scanner, told which twelve tags to keep."""
    import gdcm

    scanner = gdcm.Scanner()
    for group, element in (
        (0x08, 0x16), (0x08, 0x18), (0x08, 0x60), (0x20, 0x0D), (0x20, 0x0E), (0x20, 0x13),
        (0x20, 0x32), (0x20, 0x37), (0x28, 0x10), (0x28, 0x11), (0x28, 0x30), (0x10, 0x20),
    ):  # fmt: skip
        scanner.AddTag(gdcm.Tag(group, element))
    names = [str(path) for path in sorted(files.rglob("*/*"))]
    if not scanner.Scan(names):
        raise RuntimeError("gdcm could not scan the files")


if __name__ == "__main__":
    sys.exit(main())
