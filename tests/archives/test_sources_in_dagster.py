"""Archives on the clock: the sensor asks, the job fetches, arrivals come in, and what stays short is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from radiobject_assets.definitions import build_definitions
from radiobject_assets.platform.automation.archive_sensor import FETCH_JOB, SOURCES_SENSOR
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.store import RadiObject
from tests.archives.faulty_proxy import Answer, Asked, Proxy, faulty_proxy
from tests.archives.orthanc import Orthanc
from tests.platform.small_home import QUIET, Home


@pytest.fixture
def proxy(orthanc: Orthanc) -> Iterator[Proxy]:
    with faulty_proxy(orthanc.url) as one:
        yield one


@pytest.fixture
def home(tmp_path: Path, proxy: Proxy) -> Home:
    source = {"url": proxy.url, "quiet_period_s": 0, "every_s": 600, "query": {"Modality": "CT"}}
    content = {
        "collections": {"ct": {"match": {"modality": "CT"}}},
        "sources": {"pacs": source},
        "subjects": {"key": "study"},
    }
    (tmp_path / "dataset.yaml").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "landing").mkdir()
    return Home(tmp_path)


def tick(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Any:
    """What the daemon does: evaluate the sensor, and run what it asks for."""
    repository = definitions.get_repository_def()
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, resources=dict(definitions.resources or {})
    ) as context:
        said = repository.get_sensor_def(SOURCES_SENSOR).evaluate_tick(context)
    for request in said.run_requests or []:
        job = definitions.resolve_job_def(FETCH_JOB)
        tags = {**request.tags, "dagster/sensor_name": SOURCES_SENSOR}
        assert job.execute_in_process(instance=instance, tags=tags, run_config=QUIET).success
    return said


def test_a_study_of_the_archive_becomes_volumes_of_the_store(
    home: Home, orthanc: Orthanc, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])
    definitions = home.definitions()
    with open_instance(home.folder / "dagster") as instance:
        assert len(tick(definitions, instance).run_requests) == 1
        run = instance.get_run_records(dg.RunsFilter(job_name=FETCH_JOB), limit=1)[0].dagster_run
        outputs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_OUTPUT)
        told = outputs[0].dagster_event.step_output_data.metadata
        assert told["pacs_delivered"].value == 1
        assert "1 delivered" in str(told["pacs_said"].value)
        later = tick(definitions, instance)
        assert not later.run_requests
        assert "the next pass is due in" in later.skip_message
        done = run_pass(definitions, instance)
    assert not done.failed
    assert len(done.arrivals) == 1
    assert RadiObject(home.store_uri).collection("ct").to_obs().shape[0] > 0
    report = home.check("raw_dicom", "archives_sent_all")["archives_sent_all"]
    assert report.passed
    assert report.description == "1 studies looked at, nothing found"


@pytest.mark.slow
def test_what_an_archive_keeps_back_is_a_finding_by_tokens_and_counts(
    home: Home, orthanc: Orthanc, proxy: Proxy, phantoms: list[list[Path]]
) -> None:
    orthanc.add(phantoms[0])

    def first_three(asked: Asked, answer: Answer) -> None:
        if asked.lists_instances:
            answer.change_json(lambda content: content[:3] if asked.query.get("offset") == "0" else [])

    proxy.after = first_three
    definitions = home.definitions()
    with open_instance(home.folder / "dagster") as instance:
        job = definitions.resolve_job_def(FETCH_JOB)
        for _ in range(3):  # started by hand, it does not wait
            assert job.execute_in_process(instance=instance, run_config=QUIET).success
        assert run_pass(definitions, instance).arrivals == ()
    report = home.check("raw_dicom", "archives_sent_all")["archives_sent_all"]
    assert not report.passed
    assert "an archive announces more than it sent" in report.description
    assert "lists 3" in report.description


def test_an_archive_that_is_down_fails_no_run_and_is_asked_again_later(home: Home, orthanc: Orthanc) -> None:
    orthanc.stop()
    definitions = home.definitions()
    with open_instance(home.folder / "dagster") as instance:
        assert tick(definitions, instance).run_requests
        later = tick(definitions, instance)
    assert not later.run_requests
    assert "HTTP 500" in later.skip_message or "no connection" in later.skip_message
    report = home.check("raw_dicom", "archives_sent_all")["archives_sent_all"]
    assert not report.passed
    assert "an archive gave no answer, or was not asked" in report.description


def test_without_sources_there_is_nothing_of_them(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("collections: {ct: {match: {modality: CT}}}\n", encoding="utf-8")
    definitions = build_definitions(tmp_path / "dataset.yaml")
    assert SOURCES_SENSOR not in {one.name for one in definitions.sensors or []}
    names = {key.name for key in definitions.resolve_asset_graph().asset_check_keys}
    assert "sources_still_there" in names
    assert "archives_sent_all" not in names
