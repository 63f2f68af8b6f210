"""What the probe says of loaders with one fault each, and that it says nothing of a healthy one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from probed import LOADERS, Probe, codes

from radiobject_assets.diagnostics.findings_document import SCHEMA
from radiobject_assets.probe.probing import probe_loader
from radiobject_assets.probe.running import run_trial
from radiobject_assets.probe.steps import ProbeLimits
from radiobject_assets.probe.trial import Ended, Mode, Trial
from radiobject_assets.store import (
    RadiObjectConfig,
    S3Config,
    commit_volumes,
    ensure_collection,
    ensure_store,
    make_ctx,
    stage_volume,
)
from tests.store.conftest import S3Server, s3_server

__all__ = ["s3_server"]

FEW = ("fork",)
BOTH = ("fork", "spawn")


def test_a_healthy_loader_is_called_healthy_and_the_folder_says_so(probe: Probe) -> None:
    result = probe("healthy")
    assert codes(result) == []
    assert result.evidence.own is not None
    assert result.evidence.own.n_items == 12
    assert result.evidence.as_is is not None
    assert result.evidence.as_is.is_fine
    told = (result.folder / "report.md").read_text()
    assert "healthy: 12 items" in told
    assert "This is the first run" in told
    assert {row.stage for row in result.evidence.items[0].stages} == {
        "read", "transform 1 (Scale)", "transform 2 (Standardize)", "collate",
    }  # fmt: skip


def test_a_transform_for_photographs_is_named_and_after_the_mend_the_report_says_what_went(
    probe: Probe, tmp_path: Path
) -> None:
    kept = LOADERS.read_text()
    mended = tmp_path / "mended.py"
    mended.write_text(kept)
    result = probe("three_channels", workers=0, module=mended)
    assert codes(result) == ["transform_channels"]
    found = result.report.findings[0]
    assert found.about == "transform 2 (NormalizePhotograph)"
    assert "at every item" in found.evidence
    assert "(1, 8, 8, 8) float32" in found.evidence
    assert "--step items --items 0" in result.reproduce
    log = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    assert [line["ended"] for line in log[:-1]] == ["failed", "failed"]
    assert log[-1]["verdict"] == ["loader_transform_channels"]
    (run,) = (result.folder / "runs").iterdir()
    assert "NormalizePhotograph" in (run / "tracebacks.txt").read_text()
    assert (run / "resources.svg").read_text().startswith("<svg")
    mended.write_text(kept.replace("Compose([Scale(), NormalizePhotograph()])", "Compose([Scale()])"))
    again = probe("three_channels", workers=0, module=mended)
    assert codes(again) == []
    assert "gone: a transform expects another number of channels" in (again.folder / "report.md").read_text()


def test_the_command_prints_one_document_and_ends_with_1_after_a_crash(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "radiobject_assets.cli", "probe", f"{LOADERS}:segfault", "--json"]
    done = subprocess.run(
        [*command, "--workers", "0", "-o", str(tmp_path / "report")], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, dict(SCHEMA))
    assert document["findings"][0]["kind"] == "loader_crash"
    assert document["findings"][0]["about"] == "item 6"
    assert "string_at" in document["findings"][0]["evidence"]


@pytest.mark.s3
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_store_is_opened_with_the_options_that_are_given(
    whole: bool, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    config = RadiObjectConfig(s3=S3Config(endpoint=s3_server.endpoint, use_virtual_addressing=False))
    store = ensure_store(f"s3://{s3_server.bucket}/{tmp_path.name}/store", make_ctx(config))
    images = ensure_collection(store, "ct", make_ctx(config))
    staged = stage_volume(
        images, obs_id="one_ct", obs_subject_id="one", voxels=np.ones((8, 8, 8), np.int16), affine=np.eye(4),
        ctx=make_ctx(config),
    )  # fmt: skip
    commit_volumes(images, [staged], make_ctx(config), with_subjects=True)
    if whole:
        limits = ProbeLimits(limit_s=120, workers=1, start_methods=("spawn",))
        assert codes(probe_loader(store, tmp_path / "report", limits, config=config)) == []
    trial = Trial(store, Mode.INTEGRITY, integrity_items=9, config=config.model_dump(mode="json"))
    outcome = run_trial(trial, tmp_path / "trial")
    assert (outcome.ended, outcome.n_items, outcome.found) == (Ended.PASSED, 1, ())


def test_what_is_no_loader_is_refused_with_2() -> None:
    command = [sys.executable, "-m", "radiobject_assets.cli", "probe", "no/such/folder"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "module:factory" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "said", "methods"),
    [
        ("corrupt_volume", "item_unreadable", "EOFError at 1 of 12", FEW),
        ("nan_in_an_item", "item_not_finite", "1 of 12", FEW),
        ("nan_from_a_transform", "transform_not_finite", "item 4", FEW),
        ("ragged_shapes", "items_ragged", "items 0, 9", FEW),
        ("one_of_10000", "item_unreadable", "_one_of_many", FEW),
        ("unpicklable_error", "error_not_picklable", "the loader hung", FEW),
        ("batch_with_a_reader", "batch_not_picklable", "could not pickle", FEW),
        ("exit_before_batch_0", "worker_exits", "exit code 1 at worker_init_fn; before its first item", BOTH),
        ("segfault", "crash", "in string_at", FEW),
        ("slow_item", "item_silent", "_sleep", FEW),
        ("too_many_files", "open_files", "each item leaves 1.0 open", FEW),
        ("deadlock_after_fork", "fork_deadlock", "in _with_lock", BOTH),
        ("not_fork_safe", "not_fork_safe", "fine under spawn", BOTH),
        ("shared_offset", "wrong_in_workers", "items differ", FEW),
        ("needs_two_workers", "two_workers", "BlockingIOError", BOTH),
        ("lambda_under_spawn", "not_picklable", "started", ("spawn",)),
        ("does_not_open", "factory_fails", "FileNotFoundError", FEW),
    ],
)
def test_each_fault_is_named_first(
    probe: Probe, name: str, code: str, said: str, methods: tuple[str, ...]
) -> None:
    result = probe(name, start_methods=methods)
    assert codes(result)[:1] == [code], result.report.summary()
    first = result.report.findings[0]
    assert said in f"{first.about}; {first.evidence}"


@pytest.mark.slow
def test_what_takes_more_memory_than_it_may_is_ended_and_its_item_named(probe: Probe) -> None:
    result = probe("out_of_memory", memory_mb=1500)
    assert codes(result)[:1] == ["memory"]
    assert "at item 8, read" in result.report.findings[0].evidence


@pytest.mark.slow
def test_a_full_dev_shm_is_named(tmp_path: Path) -> None:
    """In a process of its own, since mounts belong to a process and tests' folders lie in /dev/shm."""
    if os.geteuid() != 0:
        pytest.skip("a small /dev/shm needs the right to mount")
    output = Path("/var/tmp") / f"probe-{os.getpid()}"
    command = (
        "mount -t tmpfs -o size=24m tmpfs /dev/shm && exec "
        f"{sys.executable} -m radiobject_assets.cli probe {LOADERS}:full_shared_memory --json "
        f"--start-method fork --silent 6 -o {output}"
    )
    done = subprocess.run(["unshare", "-m", "bash", "-c", command], capture_output=True, text=True)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("a small /dev/shm needs the right to mount")
    assert json.loads(done.stdout)["findings"][0]["kind"] == "loader_shared_memory", done.stdout


@pytest.mark.slow
def test_spawned_workers_and_two_loaders_are_healthy(probe: Probe) -> None:
    assert codes(probe("healthy_spawned", start_methods=("spawn", "fork", "forkserver"))) == []
