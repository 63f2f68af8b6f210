"""The sensors: settled arrivals, labels whose image has come, and what follows from both."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.settings import settings_version
from radiobject_assets.landing.settling import MARKER_GRACE_S
from radiobject_assets.platform.assets.collections import waiting_by_arrival
from radiobject_assets.platform.assets.materialization_metadata import counted, table
from radiobject_assets.platform.assets.partitions import (
    LANDING_GROUP,
    STORE_GROUP,
    TRAINING_GROUP,
    arrival_partitions,
    asset_key,
    collection_names,
)
from radiobject_assets.platform.automation.conditions import code_version_tags
from radiobject_assets.platform.automation.retries import find_retries
from radiobject_assets.platform.automation.sweep import Sweep, sweep
from radiobject_assets.platform.dagster_internals import UnresolvedAssetJobDefinition
from radiobject_assets.resources import DatasetResource, StorageResource

ARRIVALS_SENSOR = "arrivals_sensor"
WAITING_SENSOR = "waiting_labels_sensor"
FOLLOW_UP_SENSOR = "follow_up_sensor"
ARRIVAL_JOB = "process_arrival"
ARRIVAL_VERSION_TAG = "radiobject/arrival_version"

# An overrun tick (60 s) emits nothing and saves no cursor: stop long before, and go on in the next one.
TICK_BUDGET_S = 20.0


def build_arrivals_sensor(
    settings: DatasetSettings, job: UnresolvedAssetJobDefinition
) -> dg.SensorDefinition:
    """The sensor over the landing zone: a settled arrival with new content becomes one run."""
    partitions = arrival_partitions(settings)

    @dg.sensor(
        name=ARRIVALS_SENSOR,
        job=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds settled arrivals in the landing zone (marked complete, or quiet for a while) and "
        "requests one run for each whose content is new; for all of them when dataset.yaml says other things "
        "of images. Files that belong to no arrival are told in its ticks and observed on raw_dicom.",
    )
    def arrivals_sensor(
        context: dg.SensorEvaluationContext, dataset: DatasetResource, storage: StorageResource
    ) -> dg.SensorResult | dg.SkipReason:
        zone = dataset.landing(storage)
        if problem := zone.problem():
            return dg.SkipReason(problem)
        deadline = time.monotonic() + TICK_BUDGET_S

        def swept(cursor: str | None) -> Sweep:
            return sweep(
                cursor,
                zone,
                now_s=time.time(),
                settings=settings_version(dataset.config),
                out_of_time=lambda: time.monotonic() > deadline,
            )

        found = swept(context.cursor)
        if not found.requests and found.wait_s is not None and found.wait_s <= MARKER_GRACE_S:
            time.sleep(found.wait_s)  # a marker was only just written: that is not worth another tick
            found = swept(found.cursor)
        context.log.info(found.summary())
        # a tick's text is soon out of sight; an observation stays with the asset
        news = [_observed(settings, found)] if found.loose_is_news else []
        if not found.requests:
            return dg.SensorResult(skip_reason=found.summary(), cursor=found.cursor, asset_events=news)
        known = set(context.instance.get_dynamic_partitions(partitions.name or ""))
        new = [request.key for request in found.requests if request.key not in known]
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(
                    run_key=_of_data_set(settings, request.run_key),
                    partition_key=request.key,
                    tags={ARRIVAL_VERSION_TAG: request.version},
                )
                for request in found.requests
            ],
            dynamic_partitions_requests=[partitions.build_add_request(new)] if new else [],
            cursor=found.cursor,
            asset_events=news,
        )

    return arrivals_sensor


def _of_data_set(settings: DatasetSettings, run_key: str) -> str:
    # several data sets on one instance may have arrivals of one name and content
    return f"{settings.name}:{run_key}" if settings.name else run_key


def _observed(settings: DatasetSettings, found: Sweep) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key(settings, "raw_dicom"),
        description=str(found.loose) if found.loose.count else "no files lie in the landing zone itself",
        metadata={"loose_files": found.loose.count, "loose_kinds": table(counted(found.loose.kinds))},
    )


def build_waiting_sensor(settings: DatasetSettings, job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """The sensor over labels that came before their image: they are taken in again once it is there."""

    @dg.sensor(
        name=WAITING_SENSOR,
        job=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests an arrival again when the image that its labels refer to is in the store.",
    )
    def waiting_labels_sensor(
        context: dg.SensorEvaluationContext, dataset: DatasetResource, storage: StorageResource
    ) -> dg.SensorResult | dg.SkipReason:
        from radiobject_assets.ingest.labels_on_images.waiting import images_there

        names = collection_names(dataset.config)
        waiting = waiting_by_arrival(dataset.tables(storage), names)
        if not waiting:
            return dg.SkipReason("no labels wait for their image")
        everything = [one for labels in waiting.values() for one in labels]
        found = find_retries(
            context.cursor,
            waiting,
            images_there(dataset.config.store_uri, everything, storage.ctx),
            {arrival.key for arrival in dataset.landing(storage).arrivals()},
        )
        context.log.info(found.summary())
        if not found.requests:
            context.update_cursor(found.cursor)
            return dg.SkipReason(found.summary())
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=_of_data_set(settings, request.run_key), partition_key=request.key)
                for request in found.requests
            ],
            cursor=found.cursor,
        )

    return waiting_labels_sensor


def build_follow_up_sensor(settings: DatasetSettings) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions of `automation.conditions`.

    It runs in the code server, because the conditions are the project's own; and it asks for runs, not for
    backfills, so that one split is one run.
    """
    return dg.AutomationConditionSensorDefinition(
        name=FOLLOW_UP_SENSOR,
        target=dg.AssetSelection.groups(LANDING_GROUP, STORE_GROUP, TRAINING_GROUP),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        use_user_code_server=True,
        emit_backfills=False,
        run_tags=code_version_tags(settings),
        description="Requests a new snapshot, split and patch caches when their inputs have changed.",
    )
