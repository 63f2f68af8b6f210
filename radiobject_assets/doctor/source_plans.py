"""From which files volumes can be made again: the plan of each arrival, or of folders that are named."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from radiobject_assets import __version__
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.doctor.examined import Beside
from radiobject_assets.errors import IngestError, NotMadeYetError
from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.ingest.kept_scan import scan_again, to_keep
from radiobject_assets.ingest.plan import IngestPlan, plan_ingest
from radiobject_assets.ingest.refused import refused_subjects, without_refused
from radiobject_assets.ingest.settings import scan_version
from radiobject_assets.ingest.stored.holdings import images_for_labels


class FilesAwayError(IngestError):
    """The landing zone can't be looked at now, or looks as if its disk were not there."""


class SourcePlans(Protocol):
    """Knows what volumes were made from."""

    def plan(self, arrival: str) -> IngestPlan | None:
        """The plan of an arrival; None where its files are not there.

        Raises
        ------
        RadiObjectError, OSError
            Nobody can tell now whether they are there.
        """


class FolderPlans:
    """Folders and files that are named by hand, for a store without a dataset.yaml."""

    def __init__(self, store_uri: str, sources: Sequence[Path]) -> None:
        for source in sources:
            if not source.expanduser().exists():
                raise IngestError(f"{source}: no such file or folder")
        self._uri, self._sources = store_uri, [source.expanduser() for source in sources]
        self._plan = cache(self._planned)

    def plan(self, arrival: str) -> IngestPlan | None:
        """The plan of all folders: volumes of such stores have no arrival."""
        return self._plan() if self._sources else None

    def _planned(self) -> IngestPlan:
        settings = DatasetSettings()
        found = release_of(settings).scan(scan(self._sources))
        found = without_refused(found, settings, "", refused_subjects(settings, self._uri))
        return plan_ingest(found, settings, known_images=images_for_labels(self._uri, found))


class LandingPlans:
    """The landing zone of a data set: an arrival's kept scan, or a new one where that is lost."""

    def __init__(self, beside: Beside) -> None:
        self._beside = beside
        self._zone = beside.dataset.landing(beside.storage)
        self._keys: frozenset[str] | None = None

    def plan(self, arrival: str) -> IngestPlan | None:
        """The plan; files of a landing zone on S3 are fetched for it."""
        from radiobject_assets.platform.assets.arrival import plan_of

        if self._keys is None:
            if self._zone.problem():
                raise FilesAwayError("the landing zone can't be read: mount it, or mend `landing`")
            self._keys = frozenset(self._zone.keys())
        if not self._keys:
            # the folder that a disk is mounted on is there without the disk as well
            raise FilesAwayError("the landing zone is empty: is its disk mounted?")
        if arrival not in self._keys:
            return None
        beside = self._beside
        self._zone.held(arrival)
        try:
            return plan_of(beside.dataset, beside.storage, arrival)
        except (NotMadeYetError, ValueError, OSError):
            scan_arrival(beside, arrival)
            return plan_of(beside.dataset, beside.storage, arrival)


def scan_arrival(beside: Beside, key: str) -> None:
    """Read the headers of an arrival again and keep them, as `raw_dicom` does."""
    from radiobject_assets.platform.assets.arrival import images_of

    config, tables = beside.settings, beside.dataset.tables(beside.storage)
    arrival = beside.dataset.landing(beside.storage).fetch(key)
    version = f"{__version__} {scan_version(config)}"
    scanned, stamps = scan_again(arrival.place, release_of(config), None, version)
    refused = refused_subjects(config, config.store_uri, beside.storage.ctx)
    found = without_refused(images_of(scanned, arrival, config), config, key, refused, arrival.place)
    tables.put_arrow(tables.scan(key), to_keep(found, stamps, version))
