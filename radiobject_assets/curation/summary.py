"""What a state of a store holds, in numbers that name nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from radiobject_assets.store import SIZE_COLUMNS, SUBJECT, WholeState

FEW = 5
"""Values that fewer subjects have are counted together: a rare one may name somebody."""
MOST_SHAPES = 3
_SPACING = ("spacing_x_mm", "spacing_y_mm", "spacing_z_mm")
_READ = (*SIZE_COLUMNS, *_SPACING, "ndim", "dtype", "kind", "modality", "voxel_bytes")


@dataclass(frozen=True)
class CollectionSummary:
    """One collection."""

    name: str
    kinds: tuple[str, ...]
    modalities: tuple[str, ...]
    dtypes: tuple[str, ...]
    volumes: int
    subjects: int
    voxel_bytes: int
    shapes: tuple[tuple[tuple[int, ...], int], ...]
    """The most frequent ones, with how many volumes have them."""
    n_shapes: int
    spacing_mm: tuple[tuple[float, float, float], ...]
    """Least, median and greatest spacing along columns, rows and slices."""
    by_split: Mapping[str, int]
    """Volumes by split."""


@dataclass(frozen=True)
class Summary:
    """A state of a store."""

    snapshot: str | None
    digest: str
    committed_ms: int
    subjects: int
    is_pseudonymous: bool
    subjects_by_split: Mapping[str, int]
    """`""` for those without a split."""
    collections: tuple[CollectionSummary, ...]
    strata: Mapping[str, Mapping[str, int]]
    """Subjects by value and split, of the column that is stratified by."""


def summarise(
    state: WholeState, splits: Mapping[str, str], digest: str, stratify_by: str | None = None
) -> Summary:
    """Count what a state holds; reads rows, no voxels, one collection after another."""
    subjects = state.subjects()
    ids = subjects.column(SUBJECT).to_pylist()
    strata: dict[str, Counter[str]] = {}
    if stratify_by in subjects.column_names:
        values = ["" if v is None else str(v) for v in subjects.column(stratify_by).to_pylist()]
        totals = Counter(values)
        for subject, value in zip(ids, values, strict=True):
            shown = value if totals[value] >= FEW else f"fewer than {FEW} subjects"
            strata.setdefault(shown or "not known", Counter())[splits.get(subject, "")] += 1
    return Summary(
        snapshot=state.snapshot,
        digest=digest,
        committed_ms=state.state.committed_ms,
        subjects=len(ids),
        is_pseudonymous=state.is_pseudonymous,
        subjects_by_split=Counter(splits.get(subject, "") for subject in ids),
        collections=tuple(
            _collection(name, state.volumes(name, _columns(state, name)), splits)
            for name in state.collections
        ),
        strata=strata,
    )


def _columns(state: WholeState, name: str) -> list[str]:
    there = set(state.columns(name))
    return [column for column in _READ if column in there]


def _collection(name: str, rows: pa.Table, splits: Mapping[str, str]) -> CollectionSummary:
    def values(column: str) -> tuple[str, ...]:
        return tuple(sorted(set(rows.column(column).drop_null().to_pylist())))

    owners = rows.column(SUBJECT).to_pylist()
    sizes = zip(*(rows.column(column).to_pylist() for column in SIZE_COLUMNS), strict=True)
    shapes = Counter(
        tuple(size[:ndim]) for size, ndim in zip(sizes, rows.column("ndim").to_pylist(), strict=True)
    )
    spacing = np.array([rows.column(column).to_numpy() for column in _SPACING], dtype=np.float64)
    edges = (0, 50, 100) if rows.num_rows else ()
    return CollectionSummary(
        name=name,
        kinds=values("kind"),
        modalities=values("modality"),
        dtypes=values("dtype"),
        volumes=rows.num_rows,
        subjects=len(set(owners)),
        voxel_bytes=int(sum(rows.column("voxel_bytes").to_pylist())),
        shapes=tuple(sorted(shapes.items(), key=lambda item: (-item[1], item[0]))[:MOST_SHAPES]),
        n_shapes=len(shapes),
        spacing_mm=tuple(_three(np.percentile(spacing, edge, axis=1)) for edge in edges),
        by_split=Counter(splits.get(owner, "") for owner in owners),
    )


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 4) for value in values)
    return x, y, z
