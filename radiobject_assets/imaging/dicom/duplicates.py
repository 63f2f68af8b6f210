"""Instances that arrived more than once: removed where they are the same, reported where they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from radiobject_assets.imaging.dicom.instance import Instance


def identity(instance: Instance) -> Hashable:
    """What two instances share if one is a copy of the other, whatever UIDs a sender gave to the copy."""
    if len(instance.frames) != 1:
        return instance.sop_instance_uid or instance.path
    frame = instance.frames[0]
    return (
        instance.series_uid, instance.image_type, instance.instance_number, instance.acquisition_number,
        instance.attributes.get("series_number"), instance.rows, instance.columns,
        replace(frame, content_at=""),
    )  # fmt: skip


class SeenInstances:
    """The instances of a scan so far, in order of their paths: is the next one a copy of one of them?"""

    def __init__(self) -> None:
        self._keys: set[Hashable] = set()

    def again(self, instance: Instance) -> bool:
        """Whether it seems to be a copy of an instance in the same encoding that was asked about before."""
        if not instance.pixel_keyword:
            return False
        keys = {
            (instance.transfer_syntax, key) for key in (instance.sop_instance_uid, identity(instance)) if key
        }
        known = not keys.isdisjoint(self._keys)
        self._keys |= keys
        return known


def candidates(instances: Iterable[Instance]) -> list[list[Instance]]:
    """Groups of instances that may be copies of each other (same SOP instance or same identity)."""
    by_uid: dict[Hashable, list[Instance]] = defaultdict(list)
    for instance in instances:
        if instance.pixel_keyword:
            by_uid[instance.sop_instance_uid or identity(instance)].append(instance)
    by_identity: dict[Hashable, list[Instance]] = defaultdict(list)
    for group in by_uid.values():
        by_identity[identity(group[0])].extend(group)
    return [group for group in by_identity.values() if len(group) > 1]


def without_duplicates(
    instances: Sequence[Instance],
) -> tuple[list[Instance], set[Path], dict[Path, list[Path]]]:
    """Keep one of each group of copies.

    Returns
    -------
    tuple
        The instances that are kept; the paths of those whose copies differ from them; and for each kept path
        the paths of its copies.
    """
    dropped: set[Path] = set()
    conflicts: set[Path] = set()
    copies: dict[Path, list[Path]] = {}
    for group in candidates(instances):
        # Uncompressed first; of these the last, since the first was opened a second time to be compared.
        ordered = sorted(
            sorted(group, key=lambda i: str(i.path), reverse=True), key=lambda i: i.pixel_length < 0
        )
        kept, rest = ordered[0], ordered[1:]
        copies[kept.path] = [i.path for i in rest]
        dropped.update(i.path for i in rest)
        if any(_differ(kept, other) for other in rest):
            conflicts.add(kept.path)
    return [i for i in instances if i.path not in dropped], conflicts, copies


def _content(instance: Instance) -> Instance:
    """The instance without what a copy may differ in: its file, its UID, its encoding."""
    return replace(
        instance,
        path=Path(),
        size_bytes=0,
        sop_instance_uid="",
        transfer_syntax="",
        pixel_offset=0,
        pixel_length=0,
        header_digest="",
        pixel_digest="",
        attributes={},
        extras={},
        gzipped=False,
    )


def _differ(kept: Instance, other: Instance) -> bool:
    if _content(kept) != _content(other):
        return True
    # The same instance in another transfer syntax has other bytes; its SOP instance UID vouches for it.
    return kept.transfer_syntax == other.transfer_syntax and kept.pixel_digest != other.pixel_digest
