"""The data card of a snapshot: Markdown for people, Croissant (JSON-LD) for machines. Neither names anybody.

Croissant is MLCommons' vocabulary for data sets, version 1.0
(https://docs.mlcommons.org/croissant/docs/croissant-spec.html). The one file that it describes is the
manifest, which lies beside it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from radiobject_assets.curation.manifest import Digests
from radiobject_assets.curation.summary import CollectionSummary, Summary
from radiobject_assets.dataset.dataset_yaml import DatasetSettings

MANIFEST_FILE = "manifest.jsonl"


def markdown_card(summary: Summary, digests: Digests, settings: DatasetSettings) -> str:
    """The card as Markdown."""
    lines = [f"# {settings.name or 'Data set'}", ""]
    lines += [_text(settings.description), ""] if settings.description else []
    lines += _table(
        ("", ""),
        [
            ("Snapshot", _text(summary.snapshot or "none: the present state")),
            ("State of", _moment(summary).isoformat(timespec="seconds")),
            ("Licence", _text(settings.license or "not stated")),
            ("Citation", _text(settings.citation or "not stated")),
            ("Owners", _text(", ".join(_owners(settings)) or "not stated")),
            ("Subjects", f"{summary.subjects}"),
            ("Subjects' ids", "keyed pseudonyms" if summary.is_pseudonymous else "as they were delivered"),
            ("Manifest", f"`{digests.digest}`"),
            ("Content", f"`{digests.content}`"),
        ],
    )
    lines += ["", "## Collections", ""]
    lines += _table(
        ("Collection", "Kind", "Modality", "Volumes", "Subjects", "Type", "GB", "Shapes", "Spacing, mm"),
        [_collection_row(one) for one in summary.collections],
    )
    described = [
        f"- **{name}**: {_text(one.description)}"
        for name, one in settings.collections.items()
        if one.description
    ]
    lines += ["", *described] if described else []
    lines += ["", "## Splits", ""]
    names = [name for name in (*settings.split.shares, "") if summary.subjects_by_split.get(name)]
    lines += _table(
        ("Split", "Subjects", *(one.name for one in summary.collections)),
        [
            (
                name or "none yet",
                str(summary.subjects_by_split[name]),
                *(str(one.by_split.get(name, 0)) for one in summary.collections),
            )
            for name in names
        ],
    )
    grouped = ", ".join(settings.split.group_by)
    lines += ["", f"Subjects that share {grouped} are in one split."] if grouped else []
    if summary.strata:
        lines += ["", f"Subjects by {settings.split.stratify_by}:", ""]
        lines += _table(
            (str(settings.split.stratify_by), *(name or "none yet" for name in names)),
            [
                (_text(value), *(str(counts.get(name, 0)) for name in names))
                for value, counts in sorted(summary.strata.items())
            ],
        )
    return "\n".join(lines) + "\n"


def croissant_card(
    summary: Summary,
    digests: Digests,
    settings: DatasetSettings,
    *,
    manifest_sha256: str,
    manifest_bytes: int,
) -> dict[str, Any]:
    """The card as a Croissant document, beside a manifest of that digest and size."""
    volumes = ", ".join(f"{one.volumes} of {one.name}" for one in summary.collections) or "none"
    counted = f"{summary.subjects} subjects; volumes: {volumes}."
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": settings.name or "dataset",
        "description": f"{settings.description} {counted}" if settings.description else counted,
        "license": settings.license,
        "citeAs": settings.citation,
        "datePublished": _moment(summary).date().isoformat(),
        "version": "1.0.0",
        "identifier": digests.digest,
        "alternateName": summary.snapshot,
        "creator": [{"@type": "Organization", "name": name} for name in _owners(settings)],
        "keywords": sorted({"radiology", *(m for one in summary.collections for m in one.modalities)}),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": MANIFEST_FILE,
                "name": MANIFEST_FILE,
                "description": "A header, a line for each subject and volume, and digests; see its format.",
                "contentUrl": MANIFEST_FILE,
                "contentSize": f"{manifest_bytes} B",
                "encodingFormat": "application/jsonlines",
                "sha256": manifest_sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "entries",
                "name": "entries",
                "description": "Subjects (with their split) and volumes, by tokens that name nobody.",
                "field": [_field(name, what) for name, what in _FIELDS.items()],
            }
        ],
    }
    return {name: value for name, value in document.items() if value not in (None, [])}


_FIELDS = {
    "volume": "Token of a volume; empty for a subject.",
    "subject": "Token of a subject.",
    "split": "The split of a subject.",
    "collection": "Collection of a volume.",
    "kind": "image or labels.",
    "voxels": "BLAKE3 of the stored voxels.",
    "dtype": "Type of the stored voxels.",
}

# As the specification (1.0) gives it.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def _field(name: str, what: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"entries/{name}",
        "name": name,
        "description": what,
        "dataType": "sc:Text",
        "source": {"fileObject": {"@id": MANIFEST_FILE}, "extract": {"column": name}},
    }


def _collection_row(one: CollectionSummary) -> tuple[str, ...]:
    shapes = ", ".join(f"{'x'.join(map(str, shape))} ({count})" for shape, count in one.shapes)
    more = one.n_shapes - len(one.shapes)
    return (
        one.name,
        ", ".join(one.kinds),
        ", ".join(one.modalities) or "-",
        str(one.volumes),
        str(one.subjects),
        ", ".join(one.dtypes),
        f"{one.voxel_bytes / 1e9:.3g}",
        shapes + (f" and {more} more" if more > 0 else ""),
        _spacing(one),
    )


def _spacing(one: CollectionSummary) -> str:
    if not one.spacing_mm:
        return "-"
    least, median, greatest = one.spacing_mm
    shown = " x ".join(f"{value:.3g}" for value in median)
    if least == greatest:
        return shown
    edges = " x ".join(f"{low:.3g}-{high:.3g}" for low, high in zip(least, greatest, strict=True))
    return f"{shown} ({edges})"


def _owners(settings: DatasetSettings) -> list[str]:
    """Whom dataset.yaml names as responsible: e-mail addresses and teams."""
    return [owner.removeprefix("team:") for owner in settings.owners]


def _moment(summary: Summary) -> datetime:
    return datetime.fromtimestamp(summary.committed_ms / 1000, UTC)


def _text(text: str) -> str:
    """Text that can't break a table or begin a heading."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]
