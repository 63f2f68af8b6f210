"""A delivery, the dataset.yaml that takes it in, and the store that it is in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.store import RadiObject
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

DATASET = """\
name: phantoms
description: Phantom chests with lesions
license: CC-BY-4.0
citation: "The phantom makers: Phantoms, 2026"
owners: ["team:imaging"]
collections:
  ct:
    description: CT series in Hounsfield units
    match: {modality: CT}
  seg: {kind: labels, labels_of: ct, match: {modality: SEG}}
  t1w: {match: {files: "*_T1w.nii.gz"}}
patches: {image: ct, labels: seg, size_voxels: [16, 16, 16]}
"""


@dataclass
class Delivery:
    """Files, the dataset.yaml that takes them in, and the store that they are in."""

    folder: Path
    dataset: Path
    uri: str

    @property
    def settings(self) -> DatasetSettings:
        return load_dataset(self.dataset)

    @property
    def identifiers(self) -> set[str]:
        """Ids of subjects and volumes, and UIDs: what no document may have."""
        radi = RadiObject(self.uri)
        found = set(radi.obs_subject_ids) | set(radi.all_obs_ids)
        for name in radi.collection_names:
            obs = radi.collection(name).to_obs()
            for column in ("series_uid", "study_uid", "source_digest"):
                found |= set(obs[column].dropna())
        return {text for text in found if text}


def take_in(folder: Path, uri: str, settings: DatasetSettings) -> None:
    ingest_sources([folder], uri, settings, budget=MemoryBudget(512), compute=Compute(workers=1))
