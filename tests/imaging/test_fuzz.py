"""Mutations of real headers and pixel data: no crash, no hang, bounded memory, a verdict for every file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from mutations import Batch, Findings, read_everything, run_batch
from rare_forms import write_rare_forms

from radiobject_assets.ingest.work.volume_pool import Failure, Task, run_tasks
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MB, MemoryBudget

log = logging.getLogger(__name__)

BATCH = 25
FILES_OF_A_SERIES = 4
LIMIT_S = 20.0
PEAK_RSS_MB = 600
"""Of a worker: the interpreter with numpy, pydicom and the codecs is about 200 MB of it."""


def _series(shared_data: Path) -> tuple[tuple[Path, ...], ...]:
    folders = [
        tuple(sorted(path for path in folder.rglob("*") if path.is_file())[:FILES_OF_A_SERIES])
        for folder in sorted((shared_data / "series").iterdir())
    ]
    return (*folders, *((path,) for path in sorted((shared_data / "nifti").iterdir())))


def _fuzz(folders: tuple[tuple[Path, ...], ...], total: int, first: int) -> tuple[Findings, list[str]]:
    batches = [
        Batch(folders, start, min(BATCH, first + total - start))
        for start in range(first, first + total, BATCH)
    ]
    findings, failures = Findings(), []
    for index, result in run_tasks(
        run_batch,
        [Task(batch, 256 * MB) for batch in batches],
        compute=Compute(workers=2, task_timeout_s=LIMIT_S * BATCH),
        budget=MemoryBudget(2048),
    ):
        if isinstance(result, Failure):
            failures.append(f"mutations from {batches[index].first}: {result.reason} {result.detail}")
        else:
            findings.add(result)
    return findings, failures


def _hold(findings: Findings, failures: list[str], total: int) -> None:
    log.info("%s, slowest %.1f s, %.0f MB", findings.verdicts, findings.slowest_s, findings.peak_rss_mb)
    assert not failures
    assert not findings.escaped
    assert findings.slowest_s < LIMIT_S
    assert findings.peak_rss_mb < PEAK_RSS_MB
    assert sum(findings.verdicts.values()) >= total


def test_a_few_hundred_mutations_each_get_a_verdict(shared_data: Path) -> None:
    _hold(*_fuzz(_series(shared_data), 400, first=0), 400)


def test_mutations_of_rare_forms_each_get_a_verdict(tmp_path: Path) -> None:
    forms = tuple(write_rare_forms(tmp_path))
    whole = [verdict for files in forms for verdict in read_everything(files)]
    assert set(whole) == {"read"}, "what is not damaged is read"
    _hold(*_fuzz(forms, 300, first=3_000_000), 300)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_thousand_mutations_each_get_a_verdict(shared_data: Path, tmp_path: Path) -> None:
    forms = (*_series(shared_data), *write_rare_forms(tmp_path))
    _hold(*_fuzz(forms, 20_000, first=1_000_000), 20_000)
