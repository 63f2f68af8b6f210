"""What is different between two manifests: read together line by line, as both are sorted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from radiobject_assets.curation.manifest import Manifest, SubjectEntry, VolumeEntry

Entry = TypeVar("Entry", SubjectEntry, VolumeEntry)


@dataclass(frozen=True)
class Change:
    """One volume or subject that differs."""

    token: str
    collection: str
    """Of a volume; "" for a subject."""
    change: str
    """`added`, `removed`, `changed`, `renamed` (the same volume under another id or in another collection) or
    `moved` (a subject, between splits)."""
    what: tuple[str, ...] = ()
    """Of a change: `voxels`, `geometry`, `attributes`, `source`, `kind`; of a move: the split before and
    after, "" where there was none."""


@dataclass(frozen=True)
class Difference:
    """What is different between two manifests."""

    subjects: tuple[Change, ...]
    volumes: tuple[Change, ...]
    settings: tuple[str, ...]
    """Sections of dataset.yaml that differ."""
    by_content: bool = False
    """The manifests are of different stores: volumes were compared by voxels and geometry alone, and subjects
    not at all."""

    @property
    def is_same_data(self) -> bool:
        """Whether subjects, volumes and splits are equal; settings may differ."""
        return not (self.subjects or self.volumes)

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind: `volumes_added`, `subjects_moved`..."""
        found = Counter(f"volumes_{one.change}" for one in self.volumes)
        found.update(f"subjects_{one.change}" for one in self.subjects)
        return dict(sorted(found.items()))

    def to_json(self) -> dict[str, Any]:
        """The document of `diff --json`."""
        return {
            "same_data": self.is_same_data,
            "compared_by_content": self.by_content,
            "counts": self.counts,
            "settings": list(self.settings),
            "volumes": [{**vars(one), "what": list(one.what)} for one in self.volumes],
            "subjects": [
                {"token": one.token, "change": one.change, "what": list(one.what)} for one in self.subjects
            ],
        }


def compare_manifests(before: Manifest, after: Manifest) -> Difference:
    """What has changed from one manifest to another.

    Raises
    ------
    SchemaError
        One is damaged.
    """
    before.check()
    after.check()
    names = {*before.header.settings, *after.header.settings}
    settings = tuple(
        sorted(n for n in names if before.header.settings.get(n) != after.header.settings.get(n))
    )
    if before.header.key != after.header.key:
        return Difference((), tuple(_by_content(before, after)), settings, by_content=True)
    subjects = tuple(_subjects(before, after))
    return Difference(subjects, tuple(_volumes(before, after)), settings)


def _subjects(before: Manifest, after: Manifest) -> Iterator[Change]:
    for old, new in _together(before.subjects(), after.subjects(), lambda entry: entry.subject):
        if old is None and new is not None:
            yield Change(new.subject, "", "added")
        elif new is None and old is not None:
            yield Change(old.subject, "", "removed")
        elif old is not None and new is not None:
            if old.row != new.row:
                yield Change(new.subject, "", "changed", ("attributes",))
            # who had no split before is new there, and nobody's test set changed
            if old.split != new.split:
                yield Change(new.subject, "", "moved", (old.split or "", new.split or ""))


def _volumes(before: Manifest, after: Manifest) -> Iterator[Change]:
    gone: dict[tuple[Any, ...], list[VolumeEntry]] = {}
    come: list[VolumeEntry] = []
    for old, new in _together(before.volumes(), after.volumes(), lambda entry: entry.volume):
        if old is None and new is not None:
            come.append(new)
        elif new is None and old is not None:
            gone.setdefault(_same_image(old), []).append(old)
        elif old is not None and new is not None and (what := _what(old, new)):
            yield Change(new.volume, new.collection, "changed", what)
    for new in come:
        if twins := gone.get(_same_image(new)):
            twins.pop()
            yield Change(new.volume, new.collection, "renamed")
        else:
            yield Change(new.volume, new.collection, "added")
    for rest in gone.values():
        yield from (Change(old.volume, old.collection, "removed") for old in rest)


def _same_image(entry: VolumeEntry) -> tuple[Any, ...]:
    # two empty masks of one shape are equal without being the same person's
    return (entry.voxels, entry.geometry, entry.kind, entry.subject)


def _what(old: VolumeEntry, new: VolumeEntry) -> tuple[str, ...]:
    looks: dict[str, Callable[[VolumeEntry], Any]] = {
        "voxels": lambda entry: entry.voxels,
        "geometry": lambda entry: entry.geometry,
        "attributes": lambda entry: entry.row,
        "source": lambda entry: entry.sources,
        "kind": lambda entry: entry.kind,
    }
    return tuple(name for name, look in looks.items() if look(old) != look(new))


def _by_content(before: Manifest, after: Manifest) -> Iterator[Change]:
    """Of manifests whose tokens can't be compared: what has no equal volume in the other."""
    left: dict[tuple[Any, ...], list[VolumeEntry]] = {}
    for old in before.volumes():
        left.setdefault((old.voxels, old.geometry), []).append(old)
    for new in after.volumes():
        if twins := left.get((new.voxels, new.geometry)):
            twins.pop()
        else:
            yield Change(new.volume, new.collection, "added")
    for rest in left.values():
        yield from (Change(old.volume, old.collection, "removed") for old in rest)


def _together(
    before: Iterator[Entry], after: Iterator[Entry], key: Callable[[Entry], str]
) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Entries of two sorted streams in pairs of equal key; None where one has none."""
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        if new is None or (old is not None and key(old) < key(new)):
            yield old, None
            old = next(before, None)
        elif old is None or key(new) < key(old):
            yield None, new
            new = next(after, None)
        else:
            yield old, new
            old, new = next(before, None), next(after, None)
