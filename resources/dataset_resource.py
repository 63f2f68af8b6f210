"""The data set that a run works on: its description, its landing zone, and where working tables are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.landing.local_zone import LandingZone
from radiobject_assets.landing.s3_zone import S3LandingZone
from radiobject_assets.resources.storage_resource import StorageResource
from radiobject_assets.store import S3Objects


@dataclass(frozen=True)
class WorkFolder:
    """Where tables, pictures and patch caches lie between assets: `work` beside dataset.yaml.

    The tables name files and subjects: the folder is as confidential as the landing zone.
    """

    root: Path

    def arrival(self, key: str) -> Path:
        """Folder of one arrival's tables, made if needed."""
        return _made(self.root / "arrivals" / key)

    def scan_table(self, key: str) -> Path:
        """The instances of an arrival: what `raw_dicom` found."""
        return self.arrival(key) / "scan.parquet"

    def series_table(self, key: str) -> Path:
        """The series of an arrival with their verdicts."""
        return self.arrival(key) / "series.parquet"

    def outcomes_table(self, key: str, collection: str) -> Path:
        """What became of an arrival's series of one collection."""
        return self.arrival(key) / f"outcomes-{collection}.parquet"

    def waiting_table(self, key: str, collection: str) -> Path:
        """The arrival's labels of one collection that wait for their image; there only if some do."""
        return self.arrival(key) / f"waiting-{collection}.parquet"

    def waiting_tables(self) -> dict[str, list[Path]]:
        """All tables of labels that wait, by arrival."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.root.glob("arrivals/*/waiting-*.parquet")):
            found.setdefault(path.parent.name, []).append(path)
        return found

    def preview(self, collection: str, key: str) -> Path:
        """Picture of one collection's volumes of an arrival."""
        return _made(self.root / "previews" / collection) / f"{key}.png"

    def snapshot_table(self) -> Path:
        """Description of the latest snapshot."""
        return _made(self.root) / "snapshot.json"

    def splits_table(self) -> Path:
        """The latest split table."""
        return _made(self.root) / "splits.parquet"

    def patch_cache(self, split: str) -> Path:
        """Folder of the patch caches of one split."""
        return _made(self.root / "patches" / split)


class DatasetResource(dg.ConfigurableResource[Any]):
    """The validated content of dataset.yaml, as it was when the code location was loaded."""

    folder: str = Field(
        description="Folder of dataset.yaml: relative paths start here, and `work` lies in it."
    )
    content: dict[str, Any] = Field(default_factory=dict, description="What dataset.yaml says.")

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

    def landing(self, storage: StorageResource) -> LandingZone | S3LandingZone:
        """Where arrivals come in; on S3 with the options of `storage`."""
        config = self.config
        if not config.landing.startswith("s3://"):
            return LandingZone.of(config)
        copies = self.work.root / "copies"
        return S3LandingZone(config.arrivals, S3Objects(config.landing, storage.ctx), copies)

    @property
    def work(self) -> WorkFolder:
        """Where working tables are kept."""
        return WorkFolder(Path(self.folder) / "work")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
