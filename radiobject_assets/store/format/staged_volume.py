"""A volume whose array is written and whose row is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Attribute = str | int | float | bool | None


@dataclass(frozen=True)
class StagedVolume:
    """A volume whose array is written and whose row is not: what `commit_volumes` needs. Picklable."""

    token: str
    obs_id: str
    obs_subject_id: str
    shape: tuple[int, ...]
    dtype: str
    affine: tuple[tuple[float, ...], ...]
    slope: float
    intercept: float
    orientation_source: str
    voxel_digest: str
    voxel_bytes: int
    stored_bytes: int
    index_digest: str = ""
    """Of the array's index (`blocks.index.index_digest_of`); "" where it has none."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def ndim(self) -> int:
        """3, or 4 with time."""
        return len(self.shape)
