"""The data set that a run works on: its description, its landing zone, and where its tables are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.landing.local_zone import Landing, LandingZone
from radiobject_assets.landing.several_zones import LandingZones
from radiobject_assets.resources.run_heart import RunHeart
from radiobject_assets.resources.storage_resource import StorageResource
from radiobject_assets.resources.working_tables import WorkingTables


@dataclass(frozen=True)
class WorkFolder:
    """Where copies, pictures, error reports and patch caches lie on this machine: `work` beside dataset.yaml.

    What the next run needs is in the `WorkingTables`: this folder may be lost. It is as confidential as the
    landing zone.
    """

    root: Path

    def arrival(self, key: str) -> Path:
        """Folder of one arrival's error reports, made if needed."""
        return _made(self.root / "arrivals" / key)

    @property
    def looks(self) -> Path:
        """What the last look at the landing zone saw."""
        return self.root / "looked.json"

    def preview(self, collection: str, key: str) -> Path:
        """Picture of one collection's volumes of an arrival."""
        return _made(self.root / "previews" / collection) / f"{key}.png"

    def patch_cache(self, split: str) -> Path:
        """Folder of the patch caches of one split."""
        return _made(self.root / "patches" / split)


class DatasetResource(dg.ConfigurableResource[Any]):
    """The validated content of dataset.yaml, as it was when the code location was loaded.

    Every asset and check takes it; so it is also what lets a run's heart beat.
    """

    folder: str = Field(
        description="Folder of dataset.yaml: relative paths start here, and `work` lies in it."
    )
    content: dict[str, Any] = Field(default_factory=dict, description="What dataset.yaml says.")

    _heart: RunHeart | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Begin to give signs of life, if this is a run."""
        if context.run is not None and context.instance is not None:
            self._heart = RunHeart(context.instance, context.run.run_id)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """End them."""
        if self._heart is not None:
            self._heart.stop()
        self._heart = None

    @classmethod
    def of(cls, dataset: DatasetSettings) -> DatasetResource:
        """The resource for a description that is already loaded."""
        return cls(
            folder=str(dataset.folder.resolve()),
            content=dataset.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
        )

    @property
    def config(self) -> DatasetSettings:
        """The description."""
        return DatasetSettings(**{**self.content, "folder": Path(self.folder)})

    def landing(self, storage: StorageResource) -> Landing:
        """Where arrivals come in; on S3 with the options of `storage`."""
        from radiobject_assets.landing.s3_zone import S3LandingZone
        from radiobject_assets.store import S3Objects

        config = self.config
        zones: list[Landing] = []
        for number, place in enumerate(config.landing_places):
            name = config.landings[number] if number else ""
            if place.startswith("s3://"):
                copies, objects = self.work.root / "copies", S3Objects(place, storage.ctx)
                zones.append(S3LandingZone(config.arrivals, objects, copies, name, number))
            else:
                zones.append(LandingZone(Path(place), config.arrivals, name, number))
        return zones[0] if len(zones) == 1 else LandingZones(config.arrivals, tuple(zones))

    def tables(self, storage: StorageResource) -> WorkingTables:
        """The tables that the next run needs: beside a store on S3, else in the work folder."""
        from radiobject_assets.store import open_storage

        uri = self.config.store_uri
        root = f"{uri}.tables" if uri.startswith("s3://") else str(self.work.root)
        return WorkingTables(open_storage(root, storage.ctx))

    @property
    def work(self) -> WorkFolder:
        """Where working tables are kept."""
        return WorkFolder(Path(self.folder) / "work")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
