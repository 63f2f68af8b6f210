"""Archives on the clock: a job that makes one pass over them, and the sensor that asks for it when it is due.

There only where dataset.yaml has `sources`, and then it runs by default.
"""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time
from pathlib import Path
from typing import Any

import dagster as dg

from radiobject_assets.archives.source_pass import SourcePass
from radiobject_assets.archives.study_notes import read_last_pass
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import RadiObjectError
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.automation.sensors import data_set_of
from radiobject_assets.platform.own_names import own_name, with_own_resources
from radiobject_assets.resources import DatasetResource

FETCH_JOB = "fetch_from_archives"
SOURCES_SENSOR = "sources_sensor"
_SENSOR_TAG = "dagster/sensor_name"
_LIVING = [
    status
    for status in dg.DagsterRunStatus
    if status not in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
]


def build_fetch_job(settings: DatasetSettings) -> dg.JobDefinition:
    """The job that makes one pass over every source that is due; started by hand, over all of them."""

    @dg.op(
        name=own_name(settings, "fetch_studies"),
        description="Ask each archive of `sources` for what is new, and deliver what is whole into the "
        "landing zone. What was killed goes on with the next run.",
        out=dg.Out(dg.Nothing),
    )
    @with_own_resources(settings)
    def fetch_studies(context: dg.OpExecutionContext, dataset: DatasetResource) -> None:
        from radiobject_assets.archives.fetching import fetch

        config, done, failed = dataset.config, list[SourcePass](), list[Exception]()
        by_hand, began_s = _SENSOR_TAG not in context.run.tags, time.time()
        with shielded(dataset.work.root):
            for name, source in config.sources.items():
                if not by_hand and due_in_s(config, name, time.time()) > 0:
                    continue
                try:
                    one = fetch(
                        name,
                        source,
                        config.delivery_place(source.into),
                        folder=config.folder,
                        marker=config.arrivals.complete_marker,
                        anew_since_s=began_s if by_hand else None,
                    )
                except (RadiObjectError, OSError) as error:
                    failed.append(error)  # the other sources are asked all the same
                    continue
                (context.log.info if one.is_sound else context.log.warning)(one.sentence())
                done.append(one)
            if failed:
                raise failed[0]
        context.add_output_metadata(
            {f"{one.source}_{key}": value for one in done for key, value in _figures(one).items()}
        )

    @dg.job(
        name=own_name(settings, FETCH_JOB),
        tags={DATA_SET_TAG: data_set_of(settings)},
        executor_def=dg.in_process_executor,
        description="Fetch from the archives of dataset.yaml: counted, by series, never a part as the whole.",
    )
    def fetch_job() -> None:
        fetch_studies()

    return fetch_job


def build_sources_sensor(settings: DatasetSettings, job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that asks for a pass when one is due and none is in a run."""

    @dg.sensor(
        name=own_name(settings, SOURCES_SENSOR),
        job=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for a pass over the archives of `sources` every `every_s`, earlier where the last "
        "pass left something or a study has been quiet for long enough. Says what the last passes found.",
    )
    @with_own_resources(settings)
    def sources_sensor(
        context: dg.SensorEvaluationContext, dataset: DatasetResource
    ) -> dg.RunRequest | dg.SkipReason:
        config, now_s = dataset.config, time.time()
        found = dg.RunsFilter(
            job_name=own_name(settings, FETCH_JOB),
            statuses=_LIVING,
            tags={DATA_SET_TAG: data_set_of(settings)},
        )
        said = [
            str(_last(config, name).get("sentence", f"source {name}: no pass yet")) for name in config.sources
        ]
        context.log.info("; ".join(said))
        if context.instance.get_runs(found, limit=1):
            return dg.SkipReason("a pass is in a run")
        waits_s = min(due_in_s(config, name, now_s) for name in config.sources)
        if waits_s > 0:
            return dg.SkipReason(f"the next pass is due in {waits_s:.0f} s; {'; '.join(said)}")
        return dg.RunRequest(tags={DATA_SET_TAG: data_set_of(settings)})

    return sources_sensor


def due_in_s(settings: DatasetSettings, name: str, now_s: float) -> float:
    """Seconds until a source's next pass; 0 or less: now."""
    last = _last(settings, name)
    ended_s = float(last.get("ended_s", 0.0))
    if ended_s > now_s:  # the clock was put back
        return 0.0
    every_s = float(settings.sources[name].every_s)
    if not last.get("problem"):
        every_s = min(every_s, 0.0 if last.get("left") else float(last.get("wait_s") or every_s))
    return ended_s + every_s - now_s


def _last(settings: DatasetSettings, name: str) -> dict[str, Any]:
    place: Path = settings.delivery_place(settings.sources[name].into)
    return dict(read_last_pass(place, name))


def _figures(one: SourcePass) -> dict[str, Any]:
    return {
        "studies": one.studies,
        "delivered": one.delivered,
        "instances": one.fetched,
        "waiting": one.settling + one.left,
        "short": one.short,
        "left_the_query": one.left_query,
        "said": one.sentence(),
    }
