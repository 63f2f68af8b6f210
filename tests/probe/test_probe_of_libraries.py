"""The probe on loaders of MONAI and TorchIO, on a store, and on a patch cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from probed import Probe, codes

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.probe.probing import probe_loader
from radiobject_assets.probe.steps import ProbeLimits
from radiobject_assets.store import (
    RadiObject,
    commit_volumes,
    create_snapshot,
    ensure_collection,
    ensure_store,
    stage_volume,
    upsert_subjects,
)
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training import build_patch_cache

LIBRARIES = Path(__file__).with_name("library_loaders.py")
LIMITS = ProbeLimits(silent_s=30, limit_s=200, start_methods=("spawn",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("monai_healthy", None, ""),
        ("monai_truncated", "item_unreadable", "item 4; its gzip stream"),
        ("monai_missing", "item_missing", "item 5"),
        ("monai_three_channels", "transform_channels", "transform 5 (NormalizeIntensityd)"),
        ("torchio_healthy", None, ""),
        ("torchio_truncated", "item_unreadable", "item 4; its gzip stream"),
        ("torchio_constant", "transform_fails", "transform 2 (ZNormalization)"),
    ],
)
def test_loaders_of_other_libraries(probe: Probe, name: str, code: str | None, said: str) -> None:
    pytest.importorskip(name.partition("_")[0])
    result = probe(name, module=LIBRARIES, silent_s=60)
    assert codes(result)[:1] == ([code] if code else []), result.report.summary()
    if code:
        first = result.report.findings[0]
        assert said in f"{first.about}; {first.evidence}"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Three volumes of three subjects."""
    uri = str(tmp_path / "store")
    ensure_store(uri)
    collection = ensure_collection(uri, "ct")
    for number in range(3):
        voxels = np.random.default_rng(number).integers(0, 1000, (16, 17, 18)).astype(np.int16)
        subject = f"sub-{number}"
        staged = stage_volume(
            collection, obs_id=f"{subject}_ct", obs_subject_id=subject, voxels=voxels, affine=np.eye(4)
        )
        commit_volumes(collection, [staged])
        upsert_subjects(uri, pd.DataFrame({"obs_subject_id": [subject]}))
    return uri


@pytest.mark.slow
def test_a_store_is_healthy_until_a_volume_is_damaged(store: str, tmp_path: Path) -> None:
    assert codes(probe_loader(store, tmp_path / "report", LIMITS)) == []
    collection = RadiObject(store).collection(RadiObject(store).collection_names[0])
    files = [one for one in Path(collection.iloc[1].uri).rglob("*") if one.is_file()]
    largest = max(files, key=lambda one: one.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(bytes(content))
    result = probe_loader(store, tmp_path / "report", LIMITS)
    assert codes(result)[0] in ("digest", "unreadable", "files")
    assert result.report.findings[0].about.startswith("volume ")


@pytest.mark.slow
def test_a_patch_cache_is_healthy_until_a_shard_is_truncated(store: str, tmp_path: Path) -> None:
    snapshot = create_snapshot(store, "v1").name
    name = RadiObject(store).collection_names[0]
    cache = build_patch_cache(
        store, snapshot=snapshot, subjects=list(RadiObject(store).collection(name).subjects),
        patches=PatchesConfig(image=name, size_voxels=(8, 8, 8), per_volume=4), out_dir=tmp_path / "cache",
        budget=MemoryBudget(256),
    )  # fmt: skip
    assert codes(probe_loader(str(cache.path), tmp_path / "report", LIMITS)) == []
    shard = next(cache.path.glob("*.image.npy"))
    shard.write_bytes(shard.read_bytes()[:-100])  # a copy that broke off
    result = probe_loader(str(cache.path), tmp_path / "report", LIMITS)
    assert codes(result) == ["cache_unreadable"]
    assert "damaged or truncated" in result.report.findings[0].where
