"""A whole data set with history, made once and put back for each test; and a search through all its bytes."""

from __future__ import annotations

import base64
import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.definitions import build_definitions, build_resources
from radiobject_assets.forgetting.forget import House
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.platform.assets import build_assets
from radiobject_assets.platform.checks import build_checks
from radiobject_assets.platform.headless import Pass, open_instance, run_pass
from radiobject_assets.store import RadiObject, list_snapshots

SHAPE = (48, 48, 24)
WINDOW = 24
"""Bytes of voxels that are looked for: long enough to be nobody else's."""


@dataclass(frozen=True)
class Home:
    """The folder of a data set."""

    path: Path

    @property
    def settings(self) -> DatasetSettings:
        return load_dataset(self.path / "dataset.yaml")

    @property
    def store(self) -> str:
        return self.settings.store_uri

    def run(self) -> Pass:
        with open_instance(self.path / "dagster") as instance:
            return run_pass(build_definitions(self.settings), instance)

    @contextmanager
    def house(self) -> Iterator[House]:
        settings = self.settings
        resources = build_resources(settings)
        with dg.DagsterInstance.from_config(str(self.path / "dagster")) as instance:
            yield House.of(
                resources["dataset"], resources["storage"], instance,
                build_assets(settings), build_checks(settings),
            )  # fmt: skip

    def subjects(self) -> list[str]:
        return sorted(RadiObject(self.store).obs_meta.read()["obs_subject_id"])


def make_home(path: Path, *, pseudonyms: bool = False, subjects: int = 4) -> Home:
    path.mkdir(parents=True, exist_ok=True)
    yaml = DATASET_YAML
    if pseudonyms:
        yaml = yaml.replace("subjects:\n", "subjects:\n  key: pseudonym\n  columns: [age, sex]\n")
    (path / "dataset.yaml").write_text(yaml)
    make_cohort(path / "landing", subjects=subjects, shape=SHAPE)
    home = Home(path)
    assert not home.run().failed
    return home


def put_back(pristine: Path, home: Home) -> None:
    shutil.rmtree(home.path, ignore_errors=True)
    shutil.copytree(pristine, home.path)


def traces_of(home: Home, subject: str) -> tuple[set[str], set[bytes]]:
    """Texts that tell a subject, and pieces of their voxels as they are and as they are stored."""
    store = RadiObject(home.store)
    texts, pieces = {subject}, set()
    for name in store.collection_names:
        collection = store.collection(name)
        obs = collection.to_obs().reset_index()
        mine = obs[obs["obs_subject_id"] == subject]
        texts |= set(mine["obs_id"]) | set(mine["series_uid"].dropna()) - {""}
        for row in mine.to_dict("records"):
            volume = collection[row["obs_id"]]
            texts |= {uid for uid in volume.sources if uid.count(".") > 4}
            voxels = np.asarray(volume.to_numpy())
            pieces |= _pieces(np.ascontiguousarray(voxels).tobytes())
            pieces |= _pieces(np.asfortranarray(voxels).tobytes("A"))
            folder = next(Path(home.store).glob(f"collections/*/volumes/{row['volume']}"))
            for file in folder.rglob("*.tdb"):
                if file.parent.name.startswith("__") and "schema" not in str(file):
                    pieces |= _pieces(file.read_bytes())
        for arrival in set(mine["arrival"]):
            for picture in (home.path / "work" / "previews").glob(f"*/{arrival}.png"):
                content = picture.read_bytes()  # as a file, and as Dagster keeps it
                pieces |= {content[300:340], base64.b64encode(content)[600:660]}
    for table in (home.path / "work" / "arrivals").glob("*/series.parquet"):
        rows = pd.read_parquet(table)
        texts |= set(rows.loc[rows["subject_id"] == subject, "series_token"])
    return texts, pieces


def _pieces(content: bytes) -> set[bytes]:
    """Some windows that are too irregular to be there by chance."""
    step = max(WINDOW, len(content) // 40)
    found = (content[start : start + WINDOW] for start in range(0, len(content) - WINDOW, step))
    return set([piece for piece in found if len(set(piece)) > WINDOW // 2][::4])


def everything(home: Home, *, landing: bool = False) -> Iterator[tuple[str, bytes]]:
    """Every file below the home with its bytes, unpacked as well where they are packed."""
    for path in sorted(home.path.rglob("*")):
        name = path.relative_to(home.path).as_posix()
        if not path.is_file() or (name.startswith("landing/") and not landing):
            continue
        data = path.read_bytes()
        yield name, data
        if data[:2] == b"\x1f\x8b":
            yield name, gzip.decompress(data)
        start = data.find(b"\x28\xb5\x2f\xfd")
        while start >= 0:
            unpacked = bytearray()
            with suppress(OSError):
                stream = pa.CompressedInputStream(pa.BufferReader(data[start:]), "zstd")
                while piece := stream.read(65536):
                    unpacked += piece
            yield name, bytes(unpacked)
            start = data.find(b"\x28\xb5\x2f\xfd", start + 1)
        if path.suffix == ".parquet":
            yield name, pd.read_parquet(path).to_csv().encode()


def places_of(home: Home, texts: set[str], pieces: set[bytes], *, landing: bool = False) -> set[str]:
    """Files in which one of them is, by content or by name."""
    needles = [text.encode() for text in texts] + list(pieces)
    return {
        name
        for name, data in everything(home, landing=landing)
        if any(needle in data for needle in needles) or any(text in name for text in texts)
    }


def digests_without(home: Home, subject: str) -> dict[str, list[tuple[str, str]]]:
    """What every snapshot has of everybody else: ids and voxel digests."""
    found = {}
    for snapshot in list_snapshots(home.store):
        store = RadiObject(home.store, timestamp=snapshot.name)
        rows = []
        for name in store.collection_names:
            obs = store.collection(name).to_obs().reset_index()
            others = obs[obs["obs_subject_id"] != subject]
            rows += list(zip(others["obs_id"], others["voxel_digest"], strict=True))
        found[snapshot.name] = sorted(rows)
    return found
