"""Refusal rules: what would not be taken in, by header or by voxels, with the reason that `ingest` gives."""

from __future__ import annotations

from radiobject_assets.audit.folder_view import AuditedSeries, FolderView
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.diagnostics.folder_kinds import REFUSED
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.ingest.identity import token
from radiobject_assets.ingest.left_out import file_left_out, series_left_out


def refused_files(view: FolderView) -> Report:
    """Files that hold a volume, or may, and can't be read."""
    found = [
        Finding(
            REFUSED[item.reason],
            f"file {token(view.name_of(item.path), 10)}",
            item.detail,
            where=view.name_of(item.path),
        )
        for item in view.unreadable
        if file_left_out(item)
    ]
    return Report(len(view.names), "files", tuple(found))


def refused_series(view: FolderView) -> Report:
    """Series that are held back by their headers, or whose voxels can't be decoded."""
    found = [finding for item in view.items if (finding := _refused(item)) is not None]
    return Report(len(view.items), "series", tuple(found))


def _refused(item: AuditedSeries) -> Finding | None:
    outcome = item.planned.outcome("quarantined" if item.series.verdict == "quarantined" else "not_selected")
    if series_left_out(outcome) and outcome.reason is not None:
        detail = "; ".join([outcome.detail, *(f"{code}: {told}" for code, told in outcome.also)])
        return item.finding(REFUSED[Reason(outcome.reason)], detail)
    if item.look is None or item.series.verdict == "quarantined":
        return None
    if item.look.reason is not None:
        return item.finding(REFUSED[item.look.reason], item.look.detail)
    if item.planned.is_labels and (bad := item.look.not_finite + item.look.not_whole):
        told = f"{bad} of {item.look.n_voxels} voxels are no whole numbers"
        example = f", {item.look.example:.4g} is one" if item.look.not_whole else " (NaN or infinite)"
        return item.finding(REFUSED[Reason.LABELS_NOT_WHOLE], told + example)
    return None
