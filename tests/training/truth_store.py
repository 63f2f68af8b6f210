"""Stores with voxels that tests know, made through the store's own writing interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from radiobject_assets.store import (
    TileConfig,
    commit_volumes,
    create_snapshot,
    ensure_collection,
    stage_volume,
    upsert_subjects,
)

AFFINE = np.array([[-0.8, 0.0, 0.1, 100.0], [0.0, -0.8, 0.0, 80.0], [0.05, 0.0, 2.5, -300.0], [0, 0, 0, 1]])


@dataclass
class TruthStore:
    """A store, and what was put into it."""

    uri: str
    stored: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Stored voxels by obs_id."""
    rescale: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Slope and intercept by obs_id."""
    snapshots: int = 0

    def add(
        self,
        collection: str,
        obs_id: str,
        subject: str,
        voxels: NDArray[Any],
        *,
        affine: NDArray[np.float64] = AFFINE,
        slope: float = 1.0,
        intercept: float = 0.0,
        **attributes: str,
    ) -> None:
        """Write one volume, tiled so small that every patch crosses tiles."""
        collection_uri = ensure_collection(self.uri, collection)
        staged = stage_volume(
            collection_uri,
            obs_id=obs_id,
            obs_subject_id=subject,
            voxels=voxels,
            affine=affine,
            slope=slope,
            intercept=intercept,
            attributes=attributes,
            tile=TileConfig(x=8, y=8, z=4),
        )
        commit_volumes(collection_uri, [staged])
        upsert_subjects(self.uri, pd.DataFrame({"obs_subject_id": [subject]}))
        self.stored[obs_id] = voxels
        self.rescale[obs_id] = (slope, intercept)

    def add_subject(self, number: int, shape: tuple[int, ...] = (30, 26, 21), **settings: Any) -> str:
        """A subject with a CT in Hounsfield units and its labels: voxels that occur nowhere else."""
        rng = np.random.default_rng(number)
        subject = f"sub-{number}"
        ct = rng.integers(0, 4000, shape).astype(np.uint16)
        labels = np.zeros(shape[:3], np.uint8)
        labels[4:9, 3 + number % 5 : 12, 5:8] = 1 + number % 3
        self.add("ct", f"{subject}_ct", subject, ct, intercept=-1024.0, **settings)
        self.add("seg", f"{subject}_seg", subject, labels, kind="labels", labels_of=f"{subject}_ct")
        return subject

    def snapshot(self) -> str:
        """Name the present state."""
        self.snapshots += 1
        return create_snapshot(self.uri, f"v{self.snapshots}").name

    def physical(self, obs_id: str) -> NDArray[np.float64]:
        """Physical values by obs_id."""
        slope, intercept = self.rescale[obs_id]
        return self.stored[obs_id].astype(np.float64) * slope + intercept
