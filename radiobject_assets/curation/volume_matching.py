"""Whether what one has is what a manifest says: volumes found by their voxels, wherever they lie.

A copy, an export or the delivery that a store was made of has other ids, or none; the voxels are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from radiobject_assets.curation.manifest import Manifest, VolumeEntry
from radiobject_assets.errors import AlignmentError
from radiobject_assets.orientation import affine_from_values
from radiobject_assets.training.alignment import check_same_grid


@dataclass(frozen=True)
class Mismatch:
    """A volume of the manifest that is not there as it says, or one that is there besides."""

    token: str
    collection: str
    state: str
    """`missing`, `different` or `extra`."""
    what: tuple[str, ...] = ()
    """Of what is different: `voxels` (known by its id), `place`, `rescale` or `type`."""


@dataclass(frozen=True)
class Match:
    """How what one has compares with a manifest."""

    equal: int
    """Volumes of the manifest that are there as it says."""
    mismatches: tuple[Mismatch, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every volume of the manifest is there as it says, and nothing else."""
        return not self.mismatches

    def count(self, state: str) -> int:
        """Volumes that are `missing`, `different` or `extra`."""
        return sum(one.state == state for one in self.mismatches)

    def to_json(self) -> dict[str, Any]:
        """The document of `match --json`."""
        return {
            "complete": self.is_complete,
            "equal": self.equal,
            **{state: self.count(state) for state in ("missing", "different", "extra")},
            "volumes": [{**vars(one), "what": list(one.what)} for one in self.mismatches],
        }


def match_volumes(wanted: Manifest, have: Iterable[VolumeEntry], *, same_key: bool) -> Match:
    """Compare volumes with a manifest.

    Parameters
    ----------
    have
        Entries of the volumes that one has.
    same_key
        Whether their tokens were made with the manifest's key: then a volume with other voxels is known by
        its token, else it is missing and extra.

    Raises
    ------
    SchemaError
        The manifest is damaged.
    """
    wanted.check()
    present = list(have)
    by_voxels: dict[str, list[VolumeEntry]] = {}
    for entry in present:
        by_voxels.setdefault(entry.voxels, []).append(entry)
    by_token = {entry.volume: entry for entry in present} if same_key else {}
    equal, used = 0, set[int]()
    later: list[VolumeEntry] = []
    for volume in wanted.volumes():  # first those that are right, so that no other takes their place
        twin = _first(by_voxels.get(volume.voxels, ()), used, volume, by_token)
        if twin is None or _differences(volume, twin):
            later.append(volume)
        else:
            equal += 1
            used.add(id(twin))
    found: list[Mismatch] = []
    for volume in later:
        free = [entry for entry in by_voxels.get(volume.voxels, ()) if id(entry) not in used]
        known = by_token.get(volume.volume)
        if free:
            used.add(id(free[0]))
            found.append(
                Mismatch(volume.volume, volume.collection, "different", _differences(volume, free[0]))
            )
        elif known is not None and id(known) not in used:
            used.add(id(known))
            what = ("voxels", *_differences(volume, known))
            found.append(Mismatch(volume.volume, volume.collection, "different", what))
        else:
            found.append(Mismatch(volume.volume, volume.collection, "missing"))
    found += [Mismatch(entry.volume, entry.collection, "extra") for entry in present if id(entry) not in used]
    return Match(equal, tuple(found))


def _first(
    candidates: Iterable[VolumeEntry], used: set[int], volume: VolumeEntry, by_token: dict[str, VolumeEntry]
) -> VolumeEntry | None:
    free = [entry for entry in candidates if id(entry) not in used]
    # its own, then one that is all right, then any
    own = by_token.get(volume.volume)
    free.sort(key=lambda entry: (entry is not own, len(_differences(volume, entry))))
    return free[0] if free else None


def _differences(wanted: VolumeEntry, have: VolumeEntry) -> tuple[str, ...]:
    """What is different of two volumes of equal voxels: NIfTI headers keep float32, so places may round."""
    found = []
    if wanted.dtype != have.dtype:
        found.append("type")
    if not all(_close(a, b) for a, b in zip(wanted.rescale, have.rescale, strict=True)):
        found.append("rescale")
    try:
        if wanted.shape != have.shape:
            raise AlignmentError("other shape")
        grids = (affine_from_values(list(entry.affine)) for entry in (wanted, have))
        check_same_grid(wanted.shape, next(grids), have.shape, next(grids), "")
    except AlignmentError:
        found.append("place")
    return tuple(found)


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * max(abs(a), abs(b), 1e-9)
