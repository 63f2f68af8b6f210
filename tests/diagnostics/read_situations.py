"""Stores that read slowly for one reason each, made as they are made where it happens."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.diagnostics.reads.access_patterns import AccessPattern
from radiobject_assets.diagnostics.reads.diagnosis import ReadDiagnosis, diagnose_reads
from radiobject_assets.store import (
    TileDBContext,
    commit_volumes,
    ensure_collection,
    ensure_store,
    ensure_subjects,
    stage_volume,
)

SHAPE = (192, 192, 64)


def image(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    """Smooth structure and noise, which compress as a CT does: to about a half."""
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.normal(0, 6, shape), axis=0)
    return np.clip(smooth + rng.normal(0, 30, shape), -1000, 3000).astype(np.int16)


def store_with(
    place: Path | str, *, n: int = 2, shape: tuple[int, ...] = SHAPE, ctx: TileDBContext | None = None,
    **layout: Any,
) -> str:  # fmt: skip
    """A store with a collection `ct`, laid out as `stage_volume` is told."""
    uri = ensure_store(f"{place}/{secrets.token_hex(4)}", ctx)
    ct = ensure_collection(uri, "ct", ctx)
    subjects = [f"s{number}" for number in range(n)]
    ensure_subjects(uri, subjects, ctx)
    staged = [
        stage_volume(
            ct,
            obs_id=f"{subject}_ct",
            obs_subject_id=subject,
            voxels=image(number, shape),
            affine=np.diag([1.0, 1.0, 2.0, 1.0]),
            ctx=ctx,
            **layout,
        )
        for number, subject in enumerate(subjects)
    ]
    commit_volumes(ct, staged, ctx)
    return uri


def diagnosed(uri: str, *judged: AccessPattern, **how: Any) -> ReadDiagnosis:
    """A diagnosis that measures nothing but what is judged."""
    return diagnose_reads(uri, judged=judged or (AccessPattern.PATCH,), patterns=(), **how)


def kinds_of(diagnosis: ReadDiagnosis) -> list[str]:
    """Codes of the findings, in their order."""
    return [finding.kind.code for finding in diagnosis.report().findings]
