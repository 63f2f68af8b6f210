"""The audit as one HTML file: what was found, with small pictures, and what is there. No script."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Mapping
from html import escape
from importlib.resources import files

from radiobject_assets.audit.audit_pictures import picture_of_series
from radiobject_assets.audit.folder_audit import FolderAudit, OnAudit
from radiobject_assets.audit.folder_contents import FolderContents, FolderPart
from radiobject_assets.curation import sheet_drawings as draw
from radiobject_assets.diagnostics.findings import Finding, Kind, Severity

MOST_PICTURES = 80
_OF_A_KIND = 40
_TOKEN = re.compile(r"\b[0-9a-f]{10}\b")
_STYLE = """
.found{display:grid;gap:.7rem;margin:.6rem 0}
.found li{display:flex;flex-wrap:wrap;gap:.3rem .9rem;overflow-wrap:anywhere;border-top:1px solid var(--line);
padding-top:.6rem}
.found img{flex:none;width:auto;height:auto;max-width:100%;max-height:110px}
.found span{flex:1 1 20rem;min-width:0}
.bars th{overflow-wrap:normal}
.kind{border-left:4px solid var(--warn);padding-left:.8rem;margin:1.2rem 0}
.kind.error{border-color:var(--error)}
.kind h3{margin:0;font-size:1rem}
.kind h3::first-letter{text-transform:uppercase}
"""


def audit_html(
    audit: FolderAudit, subject: str, *, with_paths: bool = True, on_progress: OnAudit | None = None
) -> str:
    """The page.

    Parameters
    ----------
    subject
        The folder, as its owner calls it; shown only with paths.
    with_paths
        False: files go by tokens, for a page that is handed on. (Pictures stay: a face may be in them.)
    """
    title = subject if with_paths else "A folder"
    findings = [finding for report in audit.reports for finding in report.findings]
    pictures = _pictures(audit, findings, on_progress)
    sections = [
        ("What was found", _found(findings, pictures, with_paths)),
        ("What is there", _contents(audit.contents)),
        ("What was looked at", _looked(audit)),
    ]
    style = files("radiobject_assets.curation").joinpath("sheet.css").read_text(encoding="utf-8") + _STYLE
    body = "".join(f"<section><h2>{name}</h2>{html}</section>" for name, html in sections)
    names = (
        "Paths are those below the folder; <code>--no-paths</code> leaves them out."
        if with_paths
        else "Files go by tokens; the same command without <code>--no-paths</code> says which is which. "
        "Pictures of a head may show a face."
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<meta name=color-scheme content='light dark'>"
        f"<title>{escape(title)}: audit</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{_head(audit, findings)}</header>{body}"
        f"<footer>{names} Nothing was written into the folder.</footer></main></body></html>"
    )


def _head(audit: FolderAudit, findings: list[Finding]) -> str:
    contents = audit.contents
    errors = sum(finding.kind.severity is Severity.ERROR for finding in findings)
    tiles = [
        (f"{contents.subjects:,}", "subjects"),
        (f"{contents.series:,}", "series"),
        (f"{contents.files:,}", "files"),
        (_bytes(sum(part.voxel_bytes for part in contents.parts)), "of voxels"),
        (f"{errors:,}", "errors"),
        (f"{len(findings) - errors:,}", "warnings"),
    ]
    drawn = "".join(f"<li><b>{value}</b> {what}</li>" for value, what in tiles)
    layout = f"Laid out as <b>{escape(contents.layout)}</b>." if contents.layout else "DICOM."
    return f"<ul class=tiles>{drawn}</ul><p class=small>{layout}</p>"


def _pictures(audit: FolderAudit, findings: list[Finding], tell: OnAudit | None) -> Mapping[str, bytes]:
    by_token = {item.token: item for item in audit.view.items}
    named = [token for finding in findings for token in _TOKEN.findall(finding.about) if token in by_token]
    wanted = list(dict.fromkeys(named))[:MOST_PICTURES]
    found: dict[str, bytes] = {}
    for done, token in enumerate(wanted):
        if tell is not None:
            tell(done, len(wanted), "drawing pictures")
        if (picture := picture_of_series(by_token[token], audit.view)) is not None:
            found[token] = picture
    return found


def _found(findings: list[Finding], pictures: Mapping[str, bytes], with_paths: bool) -> str:
    by_kind: dict[Kind, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    if not by_kind:
        return "<p>Nothing.</p>"
    ordered = sorted(by_kind.items(), key=lambda one: (one[0].severity is not Severity.ERROR, -len(one[1])))
    return "".join(_kind(kind, found, pictures, with_paths) for kind, found in ordered)


def _kind(kind: Kind, found: list[Finding], pictures: Mapping[str, bytes], with_paths: bool) -> str:
    items = "".join(_one(finding, pictures, with_paths) for finding in found[:_OF_A_KIND])
    more = len(found) - _OF_A_KIND
    rest = f"<p class=small>and {more:,} more; <code>--json</code> lists all</p>" if more > 0 else ""
    return (
        f"<div class='kind {kind.severity}'><h3>{escape(kind.problem)} "
        f"<small>{kind.severity}, {len(found):,}</small></h3><p>{_with_code(kind.why)}</p>"
        f"<p><b>To do:</b> {_with_code(found[0].what_to_do)}</p><ul class=found>{items}</ul>{rest}</div>"
    )


def _one(finding: Finding, pictures: Mapping[str, bytes], with_paths: bool) -> str:
    tokens = [token for token in _TOKEN.findall(finding.about) if token in pictures]
    drawn = "".join(
        f"<img alt='planes of {token}' loading=lazy "
        f"src='data:image/jpeg;base64,{base64.b64encode(pictures[token]).decode('ascii')}'>"
        for token in tokens[:2]
    )
    places = "<br>".join(map(escape, finding.where.split("; ")))
    named = f"<b>{places}</b><br>" if with_paths and finding.where else ""
    about = f"<small><code>{escape(finding.about)}</code></small>"
    evidence = f"{escape(finding.evidence)}<br>" if finding.evidence else ""
    return f"<li>{drawn}<span>{named}{evidence}{about}</span></li>"


def _contents(contents: FolderContents) -> str:
    heads = (
        "Collection",
        "Kind",
        "Series",
        "Subjects",
        "Refused",
        "Sizes",
        "Spacing, mm",
        "Type",
        "Axes",
        "Voxels",
    )
    numbers = {"Series", "Subjects", "Refused", "Voxels"}
    head = "".join(f"<th scope=col{' class=n' if name in numbers else ''}>{name}</th>" for name in heads)
    body = "".join(map(_part, contents.parts))
    table = f"<div class=scroll><table><thead><tr>{head}</tr></thead>{body}</table></div>"
    drawn = ""
    for part in contents.parts:
        if part.kind == "image" and len(part.spacings_mm) > 2:
            for axis, name in enumerate(("columns", "rows", "slices")):
                values = [spacing[axis] for spacing in part.spacings_mm]
                title = f"{part.name}: spacing of {name}"
                drawn += draw.scatter_of_values(values, title=title, unit="mm")
    splits = {part.name: part.splits for part in contents.parts if part.splits}
    if splits:
        order = [
            name for name in ("train", "validation", "test") if any(name in one for one in splits.values())
        ]
        drawn += draw.stacked_bars(splits, title="Splits, by the names of folders", names=order)
    others = ", ".join(f"{number:,} {reason}" for reason, number in contents.other_files.items())
    rest = f"<p class=small>Files without an image: {escape(others)}.</p>" if others else ""
    return f"{table}{rest}<div class=figures>{drawn}</div>"


def _part(part: FolderPart) -> str:
    spacing = " x ".join(
        f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}" for low, high in part.spacing_range
    )
    return (
        f"<tr><th scope=row>{escape(part.name)}</th><td>{escape(part.kind)}</td>"
        f"<td class=n>{part.series:,}</td><td class=n>{part.subjects:,}</td>"
        f"<td class=n>{part.refused:,}</td><td>{_counts(part.shapes)}</td>"
        f"<td>{spacing}</td><td>{_counts(part.dtypes)}</td><td>{_counts(part.orientations)}</td>"
        f"<td class=n>{_bytes(part.voxel_bytes)}</td></tr>"
    )


def _counts(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return escape(next(iter(counts)))
    return ", ".join(f"{escape(name)} ({number:,})" for name, number in counts.items())


def _looked(audit: FolderAudit) -> str:
    looked: dict[str, int] = {}
    for report in audit.reports:
        looked[report.what] = max(looked.get(report.what, 0), report.looked_at)
    items = "".join(f"<li><b>{n:,}</b> {escape(what)}</li>" for what, n in looked.items() if n)
    return f"<ul class=tiles>{items}</ul>"


def _with_code(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.0f} kB"
