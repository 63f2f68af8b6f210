"""The data-set sheet: one HTML file that says who and what is in a data set, and what to look at.

It needs nothing else, no network and no script: it can be mailed, printed, and kept with a publication.
Neither ids nor dates are in it. Volumes go by the beginning of their array's token, as in the checks; values
that fewer than five subjects have are counted together.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

import numpy as np
import pandas as pd
from PIL import Image

from radiobject_assets.curation import sheet_drawings as draw
from radiobject_assets.curation.difference import Difference
from radiobject_assets.curation.summary import FEW, CollectionSummary, Summary
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.profiling.outliers import Outlier

MOST_BYTES = 5_000_000
PICTURES = 24
_PICTURE_HEIGHT = 120
_MOST_OUTLIERS = 12
_SHARED = (
    ("manufacturer", "Manufacturers"),
    ("model_name", "Scanner models"),
    ("magnetic_field_strength_t", "Field strength, T"),
    ("body_part", "Body part"),
    ("slice_thickness_mm", "Slice thickness, mm"),
)
SHEET_COLUMNS = tuple(column for column, _ in _SHARED)
"""Columns of obs that are shown where a collection has them."""


@dataclass(frozen=True)
class SheetContent:
    """Everything that a sheet tells."""

    settings: DatasetSettings
    summary: Summary
    rows: pd.DataFrame
    """The inventory, with `SHEET_COLUMNS`."""
    profiles: pd.DataFrame
    """Profiles of the rows that have one, by the same index."""
    outliers: Sequence[Outlier] = ()
    pictures: Mapping[int, bytes] = field(default_factory=dict)
    """PNG of volumes by the label of their row."""
    reports: Mapping[str, Report] = field(default_factory=dict)
    """What rules found, by their names."""
    before: str | None = None
    changes: Difference | None = None
    """Since the snapshot `before`."""


def sheet_html(content: SheetContent) -> str:
    """The sheet as a page."""
    summary = content.summary
    title = content.settings.name or "Data set"
    sections = [
        ("Checks", _findings(content)),
        ("What is in it", _collections(content)),
        ("Splits", _splits(content)),
        ("What changed", _changes(content)),
        ("Unlike the others", _outliers(content)),
        ("Where from", _sources(content)),
        *((f"{one.name}", _collection(one, content)) for one in summary.collections if one.volumes),
        ("Pictures", _contact_sheet(content)),
    ]
    body = "".join(f"<section><h2>{escape(name)}</h2>{html}</section>" for name, html in sections if html)
    style = files("radiobject_assets.curation").joinpath("sheet.css").read_text(encoding="utf-8")
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<meta name=color-scheme content='light dark'>"
        f"<title>{escape(title)}: data-set sheet</title><style>{style}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{_head(content)}</header>{body}"
        "<footer>Volumes go by the beginning of their array's token. No ids, no dates of persons. "
        f"Content digest {escape(summary.digest[:16])}.</footer></main></body></html>"
    )


def _head(content: SheetContent) -> str:
    summary = content.summary
    moment = datetime.fromtimestamp(summary.committed_ms / 1000, UTC)
    tiles = [
        (f"{summary.subjects:,}", "subjects"),
        (f"{sum(one.volumes for one in summary.collections):,}", "volumes"),
        (f"{len(summary.collections)}", "collections"),
        (_size(sum(one.voxel_bytes for one in summary.collections)), "of voxels"),
        (
            str(n_found := sum(len(report.findings) for report in content.reports.values())),
            "finding" if n_found == 1 else "findings",
        ),
    ]
    about = content.settings.description or ""
    drawn = "".join(f"<li><b>{escape(n)}</b> {escape(what)}</li>" for n, what in tiles)
    state = summary.snapshot or "the present state"
    return (
        (f"<p class=about>{escape(about)}</p>" if about else "")
        + f"<ul class=tiles>{drawn}</ul>"
        + f"<p class=small>{escape(state)}, of {moment:%Y-%m-%d %H:%M} UTC. "
        + f"Subjects' ids are {'keyed pseudonyms' if summary.is_pseudonymous else 'as they were delivered'}."
        + f" {_licence(content.settings)}</p>"
    )


def _licence(settings: DatasetSettings) -> str:
    return f"Licence: {escape(settings.license)}." if settings.license else "No licence is stated."


def _findings(content: SheetContent) -> str:
    looked = [(name, report) for name, report in content.reports.items() if report.looked_at]
    if not looked:
        return ""
    items = []
    for name, report in sorted(looked, key=lambda one: (one[1].is_sound, one[0])):
        mark = ("ok", "sound") if report.is_sound else (str(report.severity), str(report.severity))
        advice = "".join(f"<p class=small>{_with_code(text)}</p>" for text in report.advice(2))
        items.append(
            f"<li class={mark[0]}><b>{escape(name.replace('_', ' '))}</b> <i>{mark[1]}</i>"
            f"<br>{escape(report.summary())}{advice}</li>"
        )
    return f"<ul class=checks>{''.join(items)}</ul>"


def _with_code(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _collections(content: SheetContent) -> str:
    body = "".join(
        f"<tr><th scope=row>{escape(one.name)}</th><td>{escape(', '.join(one.kinds))}</td>"
        f"<td>{escape(', '.join(one.modalities) or '-')}</td><td class=n>{one.volumes:,}</td>"
        f"<td class=n>{one.subjects:,}</td><td>{escape(', '.join(one.dtypes))}</td>"
        f"<td class=n>{_size(one.voxel_bytes)}</td></tr>"
        for one in content.summary.collections
    )
    heads = ("Collection", "Kind", "Modality", "Volumes", "Subjects", "Type", "Size")
    numbers = {"Volumes", "Subjects", "Size"}
    head = "".join(f"<th scope=col{' class=n' if n in numbers else ''}>{n}</th>" for n in heads)
    table = f"<div class=scroll><table><thead><tr>{head}</tr></thead>{body}</table></div>"
    return table + _labels(content)


def _labels(content: SheetContent) -> str:
    patches = content.settings.patches
    if patches is None or patches.labels is None:
        return ""
    images = content.rows[content.rows["collection"] == patches.image]
    labelled = set(content.rows.loc[content.rows["collection"] == patches.labels, "labels_of"].dropna())
    lacking = int((~images["obs_id"].isin(labelled)).sum())
    said = "All images" if not lacking else f"<b>{lacking:,}</b> of {len(images):,} images"
    have = "have labels" if not lacking else "have no labels"
    return f"<p>{said} of {escape(patches.image)} {have} in {escape(patches.labels)}.</p>"


def _splits(content: SheetContent) -> str:
    summary, shares = content.summary, content.settings.split.shares
    names = [name for name in (*shares, "") if summary.subjects_by_split.get(name)]
    if not [name for name in names if name]:
        return "<p>Nobody was divided yet.</p>"
    rows: dict[str, Mapping[str, float]] = {"subjects": summary.subjects_by_split}
    rows |= {f"volumes of {one.name}": one.by_split for one in summary.collections}
    drawn = draw.stacked_bars(rows, title="Subjects and volumes", names=names)
    if summary.strata:
        strata = {value or "not known": counts for value, counts in summary.strata.items()}
        title = f"Subjects by {content.settings.split.stratify_by}"
        drawn += draw.stacked_bars(strata, title=title, names=names)
    return drawn


def _changes(content: SheetContent) -> str:
    if content.changes is None:
        return ""
    counts = content.changes.counts
    if not counts:
        return f"<p>Nothing since {escape(content.before or '')}.</p>"
    items = "".join(f"<li><b>{n:,}</b> {escape(name.replace('_', ' '))}</li>" for name, n in counts.items())
    return f"<p>Since {escape(content.before or '')}:</p><ul class=tiles>{items}</ul>"


def _outliers(content: SheetContent) -> str:
    if content.profiles.empty:
        return ""
    few = content.profiles.groupby("collection").size()
    if not content.outliers:
        return f"<p>None among {int(few.sum()):,} profiled volumes.</p>"
    items = ""
    for one in content.outliers[:_MOST_OUTLIERS]:
        reasons = "; ".join(one.reasons[:3]) + (
            f"; and {len(one.reasons) - 3} more" if len(one.reasons) > 3 else ""
        )
        items += (
            f"<li>{_image(content, one.index)}<span><b>{escape(one.collection)}</b> "
            f"<code>{_token(content.rows, one.index)}</code><br>{escape(reasons)}</span></li>"
        )
    more = len(content.outliers) - _MOST_OUTLIERS
    rest = f"<p>and {more:,} more; the asset <code>profile</code> lists them</p>" if more > 0 else ""
    return f"<ul class=outliers>{items}</ul>{rest}"


def _sources(content: SheetContent) -> str:
    drawn = ""
    for column, title in _SHARED:
        if column not in content.rows:
            continue
        told = content.rows[["obs_subject_id", column]].dropna()
        shown = told.assign(value=told[column].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v)))
        subjects = shown.groupby("value")["obs_subject_id"].nunique().to_dict()
        counts: Counter[str] = Counter()
        for value, number in Counter(shown["value"]).items():
            rare = subjects[value] < FEW
            counts[f"of fewer than {FEW} subjects" if rare else str(value)] += number
        drawn += draw.bars(counts, title=title, unit="volumes")
    return f"<div class=figures>{drawn}</div>" if drawn else ""


def _collection(one: CollectionSummary, content: SheetContent) -> str:
    rows = content.rows[content.rows["collection"] == one.name]
    shapes = Counter(
        " x ".join(str(int(size)) for size in sizes)
        for sizes in rows[["size_x", "size_y", "size_z"]].itertuples(index=False)
    )
    drawn = draw.bars(shapes, title="Shapes", unit="volumes", most_shown=6)
    for axis, name in zip("xyz", ("columns", "rows", "slices"), strict=True):
        spacing = rows[f"spacing_{axis}_mm"].astype(float)
        drawn += draw.scatter_of_values(spacing.tolist(), title=f"Spacing of {name}", unit="mm")
    profiles = content.profiles
    profiles = profiles[profiles["collection"] == one.name] if len(profiles) else profiles
    if len(profiles):
        drawn += _classes(profiles) if "classes" in profiles and profiles["classes"].notna().any() else ""
        drawn += _values(profiles)
    told = f"<p class=small>{len(profiles):,} of {len(rows):,} volumes are profiled.</p>"
    return f"<div class=figures>{drawn}</div>" + (told if len(profiles) < len(rows) else "")


def _values(profiles: pd.DataFrame) -> str:
    drawn = ""
    if "histogram" not in profiles:
        return drawn
    counted = profiles[profiles["histogram"].notna()]
    ranges = set(zip(counted["histogram_from"], counted["histogram_to"], strict=True))
    if len(counted):
        # each volume counts alike; of different ranges the place within the range is shown
        parts = [np.asarray(h, dtype=float) / max(sum(h), 1) for h in counted["histogram"]]
        low, high = next(iter(ranges)) if len(ranges) == 1 else (0.0, 1.0)
        unit = "HU" if (low, high) == (-1024.0, 3072.0) else "" if len(ranges) == 1 else "of each range"
        drawn += draw.columns(list(np.sqrt(np.mean(parts, axis=0))), low, high, title="Values", unit=unit)
    for column, title in (
        ("p50", "Median value"),
        ("snr_dietrich", "Signal to noise (Dietrich)"),
        ("efc", "Entropy focus criterion"),
        ("interslice_jump", "Largest jump between slices"),
    ):
        if column in counted:
            drawn += draw.scatter_of_values(counted[column].astype(float).tolist(), title=title)
    return drawn


def _classes(profiles: pd.DataFrame) -> str:
    volumes: dict[str, list[float]] = {}
    for text in profiles["classes"].dropna():
        of_volume: dict[str, float] = {}  # two segments of one volume may have one name
        for one in json.loads(str(text)):
            name = str(one["name"] or f"class {one['value']}")
            of_volume[name] = of_volume.get(name, 0.0) + float(one["ml"])
        for name, size in of_volume.items():
            volumes.setdefault(name, []).append(size)
    frequent = sorted(volumes.items(), key=lambda item: (-len(item[1]), item[0]))
    drawn = draw.bars({name: len(ml) for name, ml in volumes.items()}, title="Classes", unit="volumes")
    for name, ml in frequent[:3]:
        drawn += draw.scatter_of_values(ml, title=f"Size of {name}", unit="mL")
    return drawn


def _contact_sheet(content: SheetContent) -> str:
    shown = {one.index for one in content.outliers[:_MOST_OUTLIERS]}
    items = "".join(
        f"<li>{_image(content, index)}<small>{escape(_collection_of(content, index))} "
        f"<code>{_token(content.rows, index)}</code></small></li>"
        for index in content.pictures
        if index not in shown
    )
    return f"<ul class=pictures>{items}</ul>" if items else ""


def _image(content: SheetContent, index: int) -> str:
    picture = content.pictures.get(index)
    if picture is None:
        return ""
    with Image.open(io.BytesIO(picture)) as whole:
        width = max(1, round(whole.width * _PICTURE_HEIGHT / whole.height))
        small = whole.convert("RGB").resize((width, _PICTURE_HEIGHT), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=72)
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    name = f"mid-planes of a volume of {_collection_of(content, index)}"
    return (
        f"<img alt='{escape(name, quote=True)}' width={width} height={_PICTURE_HEIGHT} loading=lazy "
        f"src='data:image/jpeg;base64,{encoded}'>"
    )


def _collection_of(content: SheetContent, index: int) -> str:
    return str(content.rows.at[index, "collection"])


def _token(rows: pd.DataFrame, index: int) -> str:
    return escape(str(rows.at[index, "volume"])[:10])


def _size(nbytes: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes / 1e3:.0f} kB"
