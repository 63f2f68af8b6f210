"""An arrival that came as archives goes the same way as one of folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.platform.overview import read_overview
from radiobject_assets.store import RadiObject

SHAPE = (48, 48, 24)


@pytest.mark.slow
def test_a_packed_arrival_gives_the_volumes_and_subjects_of_the_plain_one(tmp_path: Path) -> None:
    for home in ("plain", "packed"):
        (tmp_path / home / "landing").mkdir(parents=True)
        (tmp_path / home / "dataset.yaml").write_text(DATASET_YAML, encoding="utf-8")
        make_subject(tmp_path / home / "landing", 1, arrival="late-001", shape=SHAPE)
    folder = tmp_path / "packed/landing/late-001"
    (folder / "_COMPLETE").unlink()
    shutil.make_archive(str(tmp_path / "drop"), "gztar", folder)
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.move(tmp_path / "drop.tar.gz", folder / "drop.tar.gz")
    (folder / "_COMPLETE").touch()
    stored = {}
    for home in ("plain", "packed"):
        definitions = build_definitions(load_dataset(tmp_path / home / "dataset.yaml"))
        with open_instance(tmp_path / home / "dagster") as instance:
            done = run_pass(definitions, instance)
            seen = read_overview(load_dataset(tmp_path / home / "dataset.yaml"), definitions, instance)
        assert not done.failed
        assert seen.checks.failures == (
            "demo/patch_cache: patches_are_there",
            "demo/patch_cache: patches_match_volumes[test]",
            "demo/patch_cache: patches_match_volumes[validation]",
            "demo/splits: splits_are_usable",
        )  # one subject for three splits
        radi = RadiObject(str(tmp_path / home / "store"))
        digests = {
            name: sorted(radi.collection(name).to_obs()["voxel_digest"]) for name in radi.collection_names
        }
        stored[home] = (digests, radi.obs_meta.read().to_csv())
    assert stored["packed"] == stored["plain"]
    assert len(stored["packed"][0]) == 3
