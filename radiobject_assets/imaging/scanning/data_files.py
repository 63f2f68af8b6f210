"""Files that count with another one: voxels beside a header (.img, .raw, .BRIK), sidecars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from radiobject_assets.imaging.files.unreadable import Unreadable
from radiobject_assets.imaging.nifti.header import NiftiFile, nifti_data_file, with_data_file
from radiobject_assets.imaging.nifti.sidecars import read_sidecars, sidecars_of
from radiobject_assets.imaging.nifti.volume_file import FORMATS, data_path, with_volume_data
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.scanning.foreign import data_names, voxels_alone


def claim_data_files(
    niftis: list[NiftiFile], unreadable: list[Unreadable], texts: Mapping[Path, bytes]
) -> tuple[list[NiftiFile], list[Unreadable]]:
    """Give .img files to their .hdr and sidecars to their image; a header without its data is unreadable."""
    others = {entry.path: entry for entry in _with_foreign_data(unreadable)}
    kept: list[NiftiFile] = []
    for nifti in niftis:
        if nifti.single_file:
            kept.append(_with_sidecars(nifti, others, texts))
            continue
        data = nifti_data_file(nifti.path, others) if nifti.format == "nifti" else data_path(nifti)
        if data is None or (data not in others and not data.is_file()):
            others[nifti.path] = _without_data(nifti)
            continue
        others.pop(data, None)
        join = with_data_file if nifti.format == "nifti" else with_volume_data
        pair = join(nifti, data, data.stat().st_size if data.is_file() else None)
        kept.append(_with_sidecars(pair, others, texts))
    return kept, [_if_voxels_alone(item) for item in others.values()]


def _if_voxels_alone(item: Unreadable) -> Unreadable:
    if item.reason is not Reason.NOT_AN_IMAGE or not (told := voxels_alone(item.path.name)):
        return item
    return replace(item, reason=Reason.FOREIGN_FORMAT, detail=told)


def _without_data(header: NiftiFile) -> Unreadable:
    if header.format == "nifti":
        return Unreadable(header.path, Reason.NIFTI_DATA_MISSING, "has no .img file beside it")
    if header.problem:
        code, _, detail = header.problem.partition(" ")
        return Unreadable(header.path, Reason(code), detail)
    name = FORMATS[header.format]
    return Unreadable(
        header.path, Reason.VOLUME_DATA_MISSING, f"is a header of {name} whose data file is not beside it"
    )


def _with_sidecars(
    nifti: NiftiFile, others: dict[Path, Unreadable], texts: Mapping[Path, bytes]
) -> NiftiFile:
    # Only what the scan has met: a sidecar outside the sources is not ours to read.
    present = tuple(path for path in sidecars_of(nifti.path) if path in others)
    for path in present:
        del others[path]
    if not present:
        return nifti
    told = read_sidecars(present, nifti.matrix, texts)
    return replace(nifti, files=(*nifti.files, *present), attributes={**nifti.attributes, **told})


def _with_foreign_data(unreadable: list[Unreadable]) -> list[Unreadable]:
    """Give the data files beside headers of other programs (.BRIK, .REC, .img) their header's reason."""
    headers = [u for u in unreadable if u.reason in (Reason.FOREIGN_FORMAT, Reason.NIFTI_INVALID)]
    if not headers:
        return unreadable
    found = {
        (header.path.parent, name): header for header in headers for name in data_names(header.path.name)
    }
    result = []
    for item in unreadable:
        header = found.get((item.path.parent, item.path.name.lower()))
        if header is not None and header.path != item.path and item.reason is not Reason.FOREIGN_FORMAT:
            item = replace(
                item,
                reason=header.reason,
                detail=f"has the voxels of a file beside it, which {header.detail}",
            )
        result.append(item)
    return result
