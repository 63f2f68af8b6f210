"""When things run: sensors for arrivals, conditions for what follows, and the job that an arrival is."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets.partitions import arrival_partitions, asset_key, collection_names
from radiobject_assets.platform.automation.conditions import when_checked_inputs_changed, when_inputs_changed
from radiobject_assets.platform.automation.sensors import (
    ARRIVAL_JOB,
    build_arrivals_sensor,
    build_follow_up_sensor,
    build_waiting_sensor,
)
from radiobject_assets.platform.checks.standing import keys_apart_from_arrivals
from radiobject_assets.platform.dagster_internals import UnresolvedAssetJobDefinition


def build_arrival_job(settings: DatasetSettings) -> UnresolvedAssetJobDefinition:
    """The job that takes one arrival in: from its files to committed, checked volumes.

    All steps run in one process: each fans out over a pool of its own, so parallel steps would only compete
    for the cores and share one memory budget twice.
    """
    return dg.define_asset_job(
        ARRIVAL_JOB,
        selection=dg.AssetSelection.assets(
            *(
                asset_key(settings, name)
                for name in ("raw_dicom", "series", "subjects", *collection_names(settings))
            )
        )
        - dg.AssetSelection.checks(*keys_apart_from_arrivals(settings)),
        partitions_def=arrival_partitions(settings),
        executor_def=dg.in_process_executor,
        description="One arrival: scan, judge, ingest every collection, check.",
    )


def with_conditions(
    settings: DatasetSettings, assets: Sequence[dg.AssetsDefinition]
) -> list[dg.AssetsDefinition]:
    """The assets with the conditions under which those after the arrivals are requested."""
    conditions = {
        asset_key(settings, "dataset"): when_inputs_changed(),
        asset_key(settings, "splits"): when_inputs_changed(),
        asset_key(settings, "patch_cache"): when_checked_inputs_changed(),
    }
    return [
        asset.with_attributes(automation_condition=conditions[asset.key])
        if asset.key in conditions
        else asset
        for asset in assets
    ]


def build_sensors(settings: DatasetSettings, job: UnresolvedAssetJobDefinition) -> list[dg.SensorDefinition]:
    """The sensors for arrivals, for labels that wait for their image, and for what follows."""
    return [
        build_arrivals_sensor(settings, job),
        build_waiting_sensor(settings, job),
        build_follow_up_sensor(settings),
    ]
