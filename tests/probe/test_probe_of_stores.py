"""What the probe says of healthy stores and files that are many, large or slow: nothing."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from probed import LOADERS

from radiobject_assets.probe.child_journal import JOURNAL, ChildJournal, new_events
from radiobject_assets.probe.integrity_step import files_exist
from radiobject_assets.probe.outcomes import Reading
from radiobject_assets.probe.probed_subject import subject_of
from radiobject_assets.probe.running import run_trial
from radiobject_assets.probe.steps import ProbeEvidence, ProbeLimits
from radiobject_assets.probe.trial import Ended, Mode, Trial
from radiobject_assets.probe.verdict import verdict
from radiobject_assets.store import commit_volumes, ensure_collection, ensure_store, stage_volume

pytest.importorskip("torch", reason="loaders are PyTorch's")

N_VOLUMES = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A healthy store of as many volumes as show that files are kept open."""
    uri = str(tmp_path_factory.mktemp("probed") / "store")
    ensure_store(uri)
    where = ensure_collection(uri, "ct")
    voxels = np.arange(8**3, dtype=np.int16).reshape(8, 8, 8)
    staged = [
        stage_volume(where, obs_id=f"v-{n}", obs_subject_id=f"s-{n}", voxels=voxels + n, affine=np.eye(4))
        for n in range(N_VOLUMES)
    ]
    commit_volumes(where, staged, with_subjects=True)
    return uri


def test_a_store_that_is_too_large_for_the_time_is_cut_short_and_no_finding(
    store: str, tmp_path: Path
) -> None:
    trial = Trial(store, Mode.INTEGRITY, "integrity", integrity_items=500, limit_s=0)
    outcome = run_trial(trial, tmp_path / "cut")
    assert outcome.ended == Ended.CUT
    report = verdict(ProbeEvidence(subject_of(store), ProbeLimits(), integrity=outcome))
    assert report.findings == ()
    assert "integrity: cut short: 0 batches, 0 items" in str(report)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("store", []),
        pytest.param("of_a_store", [], marks=pytest.mark.slow),
        ("leaves_files_open", ["loader_open_files_grow"]),
    ],
)
def test_files_that_a_store_keeps_open_are_no_leak_and_those_of_a_data_set_are(
    store: str, tmp_path: Path, name: str, found: list[str]
) -> None:
    subject = subject_of(store if name == "store" else f"{LOADERS}:{name}")
    outcome = run_trial(
        Trial(subject.text, Mode.ITEMS), tmp_path / "trial", environment={"PROBE_STORE": store}
    )
    opened = list(outcome.item_files.values())
    assert opened[-1] - opened[0] >= N_VOLUMES - 1
    report = verdict(ProbeEvidence(subject, ProbeLimits(), items=(outcome,)))
    assert [one.kind.code for one in report.findings] == found


class _Listed:
    """A data set as MONAI's: its items name their files."""

    def __init__(self, path: Path) -> None:
        self.data = [{"image": path} for _ in range(500)]


def test_very_many_files_are_unzipped_for_as_long_as_there_is_time_and_each_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(bytes(20 << 20), 1))
    trial = Trial("any", Mode.ITEMS, integrity_items=500, limit_s=2)
    files_exist(_Listed(path), trial, ChildJournal(tmp_path), time.monotonic() + 60)
    events, _ = new_events(tmp_path / JOURNAL, 0)
    noted = [event["event"] for event in events]
    assert 0 < noted.count("stage") == noted.count("stage_done") < 500
    assert "found" not in noted
    reading = Reading(trial)
    reading.take((events, 0))
    assert reading.silent_s(events[-1]["t"] + 1, 0) == pytest.approx(1)  # nothing is in the making


def test_one_very_large_file_is_looked_at_for_less_than_it_may_be_silent(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(bytes(200 << 20), 1)[:-8])
    trial = Trial("any", Mode.ITEMS, integrity_items=1, limit_s=60, silent_s=0.01)
    files_exist(_Listed(path), trial, ChildJournal(tmp_path), time.monotonic() + 60)
    events, _ = new_events(tmp_path / JOURNAL, 0)
    assert [event["event"] for event in events] == ["stage", "stage_done"]  # its end was not come to
