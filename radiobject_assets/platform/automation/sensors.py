"""The sensors: arrivals that are wanted and not achieved, and what follows from them."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from collections.abc import Iterable

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.known_partitions import known_partitions, note_added
from radiobject_assets.platform.arrivals.reconciling import Request
from radiobject_assets.platform.arrivals.runs import (
    ARRIVALS_TAG,
    DATA_SET_TAG,
    REQUEST_TAG,
    RunsOfDataSet,
)
from radiobject_assets.platform.assets.materialization_metadata import counted, table
from radiobject_assets.platform.assets.partitions import (
    arrival_assets,
    arrival_checks,
    arrival_partitions,
    asset_key,
)
from radiobject_assets.platform.automation.conditions import code_version_tags
from radiobject_assets.platform.automation.passed_checks import unlist_passed
from radiobject_assets.platform.automation.tick import Ticked, tick
from radiobject_assets.platform.checks.nothing_left import evaluation
from radiobject_assets.platform.dagster_internals import UnresolvedAssetJobDefinition
from radiobject_assets.platform.memory_pool import budgets_that_fit, limit_pool
from radiobject_assets.platform.own_names import own_name, with_own_resources
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource
from radiobject_assets.system.memory import usable_memory_mb

ARRIVALS_SENSOR = "arrivals_sensor"
FOLLOW_UP_SENSOR = "follow_up_sensor"
ARRIVAL_JOB = "process_arrival"
TRY_NOW = "now"
"""As the arrivals sensor's cursor: try what failed or was given up at the next tick. Anybody may set it."""
_TRY_IN_TIME = "in time"  # not empty: Dagster takes that for the old one


def data_set_of(settings: DatasetSettings) -> str:
    """What its runs are told from those of other data sets by."""
    return settings.name or "unnamed"


def build_arrivals_sensor(
    settings: DatasetSettings, job: UnresolvedAssetJobDefinition, keys: Iterable[dg.AssetKey]
) -> dg.SensorDefinition:
    """The sensor over the landing zone: what is wanted and not achieved becomes a run.

    Parameters
    ----------
    keys
        Of all assets of the data set: by them a run that somebody started by hand is known.
    """
    own_keys = frozenset(keys)
    partitions = arrival_partitions(settings)

    @dg.sensor(
        name=own_name(settings, ARRIVALS_SENSOR),
        job=job,
        minimum_interval_seconds=settings.arrivals.look_every_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares what lies settled in the landing zone with what was taken in, and asks for "
        "a run for what is behind and in no run: new content, other settings, an image that "
        "labels waited for, a run that failed or was killed. Ends runs whose process has died. Set its "
        f"cursor to `{TRY_NOW}` to have what failed tried at once.",
    )
    @with_own_resources(settings)
    def arrivals_sensor(
        context: dg.SensorEvaluationContext,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> dg.SensorResult:
        limit_pool(context.instance, budgets_that_fit(usable_memory_mb(), memory.total_mb))
        known = known_partitions(context.instance, partitions.name or "", anew=context.cursor == TRY_NOW)
        done = tick(
            dataset,
            storage,
            _runs_of(settings, own_keys, context.instance),
            partitions=known.names,
            is_impatient=context.cursor == TRY_NOW,
        )
        context.log.info(done.summary)
        unlist_passed(context.instance, arrival_checks(settings))
        asked = () if known.is_of_now else (request.partition for request in done.requests)
        new = frozenset((*done.new, *asked))
        note_added(context.instance, partitions.name or "", new)
        return dg.SensorResult(
            run_requests=[_run_request(settings, request) for request in done.requests] or None,
            skip_reason=None if done.requests else done.summary,
            dynamic_partitions_requests=[partitions.build_add_request(sorted(new))] if new else [],
            cursor=_TRY_IN_TIME,
            asset_events=_told(settings, done),
        )

    return arrivals_sensor


def _runs_of(
    settings: DatasetSettings, keys: frozenset[dg.AssetKey], instance: dg.DagsterInstance
) -> RunsOfDataSet:
    return RunsOfDataSet(
        instance=instance,
        data_set=data_set_of(settings),
        arrival_job=own_name(settings, ARRIVAL_JOB),
        raw_dicom=asset_key(settings, "raw_dicom"),
        arrival_keys=frozenset(asset_key(settings, name) for name in arrival_assets(settings)),
        keys=keys,
    )


def _run_request(settings: DatasetSettings, request: Request) -> dg.RunRequest:
    # no run key: Dagster runs one once for ever, also where its run was lost
    shared = {} if request.keys == (request.partition,) else {ARRIVALS_TAG: " ".join(request.keys)}
    return dg.RunRequest(
        partition_key=request.partition,
        tags={DATA_SET_TAG: data_set_of(settings), REQUEST_TAG: request.token, **shared},
    )


def _told(
    settings: DatasetSettings, done: Ticked
) -> list[dg.AssetObservation | dg.AssetCheckEvaluation | dg.AssetMaterialization]:
    # a tick's text is soon out of sight; these stay with the asset
    news: list[dg.AssetObservation | dg.AssetCheckEvaluation | dg.AssetMaterialization] = []
    if done.loose_is_news:
        news.append(
            dg.AssetObservation(
                asset_key(settings, "raw_dicom"),
                description=str(done.loose)
                if done.loose.count
                else "no files lie in the landing zone itself",
                metadata={"loose_files": done.loose.count, "loose_kinds": table(counted(done.loose.kinds))},
            )
        )
    if done.left_is_news:
        news.append(evaluation(settings, done.left))
    return news


def build_follow_up_sensor(
    settings: DatasetSettings, keys: Iterable[dg.AssetKey]
) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions of `automation.conditions` of these assets.

    It runs in the code server, because the conditions are the project's own; and it asks for runs, not for
    backfills, so that one split is one run.
    """
    return dg.AutomationConditionSensorDefinition(
        name=own_name(settings, FOLLOW_UP_SENSOR),
        target=dg.AssetSelection.assets(*keys),  # a group may have assets of others
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        use_user_code_server=True,
        emit_backfills=False,
        run_tags={DATA_SET_TAG: data_set_of(settings), **code_version_tags(settings)},
        description="Requests a new snapshot, split and patch caches when their inputs have changed.",
    )
