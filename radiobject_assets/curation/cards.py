"""A data card with its manifest, as files in one folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiobject_assets.curation.card import MANIFEST_FILE, croissant_card, markdown_card
from radiobject_assets.curation.manifest import Digests, ManifestHeader
from radiobject_assets.curation.manifest_of_state import write_manifest
from radiobject_assets.curation.summary import Summary, summarise
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.store import WholeState
from radiobject_assets.system.durable_files import write_whole


@dataclass(frozen=True)
class Cards:
    """What was written."""

    header: ManifestHeader
    digests: Digests
    summary: Summary
    markdown: str
    croissant: dict[str, Any]


def write_cards(
    state: WholeState, folder: Path, settings: DatasetSettings, *, splits: Mapping[str, str] | None = None
) -> Cards:
    """Write README.md, croissant.json and the manifest that it describes into a folder that is there.

    Parameters
    ----------
    splits
        By subject id; None: none are known.
    """
    path = folder / MANIFEST_FILE
    header, digests = write_manifest(state, path, splits=splits, settings=settings)
    summary = summarise(state, splits or {}, header.snapshot_digest, settings.split.stratify_by)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    markdown = markdown_card(summary, digests, settings)
    croissant = croissant_card(
        summary, digests, settings, manifest_sha256=sha256, manifest_bytes=path.stat().st_size
    )
    write_whole(folder / "README.md", markdown)
    write_whole(folder / "croissant.json", json.dumps(croissant, indent=2, ensure_ascii=False) + "\n")
    return Cards(header, digests, summary, markdown, croissant)
