"""When things run: sensors for arrivals, conditions for what follows, and the job that an arrival is."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG
from radiobject_assets.platform.assets.partitions import arrival_assets, arrival_partitions, asset_key
from radiobject_assets.platform.automation.conditions import (
    when_arrivals_are_in,
    when_checked_inputs_changed,
    when_division_changed,
    when_inputs_changed,
)
from radiobject_assets.platform.automation.sensors import (
    ARRIVAL_JOB,
    build_arrivals_sensor,
    build_follow_up_sensor,
    data_set_of,
)
from radiobject_assets.platform.checks.nothing_left import LEFT_BEHIND_CHECK
from radiobject_assets.platform.checks.standing import keys_apart_from_arrivals
from radiobject_assets.platform.dagster_internals import UnresolvedAssetJobDefinition
from radiobject_assets.platform.own_names import own_name


def build_arrival_job(settings: DatasetSettings) -> UnresolvedAssetJobDefinition:
    """The job that takes one arrival in: from its files to committed, checked volumes.

    All steps run in one process: each fans out over a pool of its own, so parallel steps would only compete
    for the cores and share one memory budget twice.
    """
    arrival = dg.AssetSelection.assets(*(asset_key(settings, name) for name in arrival_assets(settings)))
    # a standing check is about all arrivals: it is no part of the run of one
    standing = dg.AssetCheckKey(asset_key(settings, "raw_dicom"), LEFT_BEHIND_CHECK)
    return dg.define_asset_job(
        own_name(settings, ARRIVAL_JOB),
        selection=arrival - dg.AssetSelection.checks(standing, *keys_apart_from_arrivals(settings)),
        tags={DATA_SET_TAG: data_set_of(settings)},
        partitions_def=arrival_partitions(settings),
        executor_def=dg.in_process_executor,
        description="One arrival: scan, judge, ingest every collection, check.",
    )


def with_conditions(
    settings: DatasetSettings, assets: Sequence[dg.AssetsDefinition]
) -> list[dg.AssetsDefinition]:
    """The assets with the conditions under which those after the arrivals are requested."""
    # two arrivals of one minute settle, and are looked at, at most so far apart
    quiet_s = settings.arrivals.quiet_period_s + settings.arrivals.look_every_s
    conditions = {
        asset_key(settings, "dataset"): when_arrivals_are_in(quiet_s),
        **{asset_key(settings, name): when_inputs_changed() for name in ("profile", "sheet")},
        asset_key(settings, "splits"): when_division_changed(settings),
        asset_key(settings, "patch_cache"): when_checked_inputs_changed(),
    }
    return [
        asset.with_attributes(automation_condition=conditions[asset.key])
        if asset.key in conditions
        else asset
        for asset in assets
    ]


def build_sensors(
    settings: DatasetSettings, job: UnresolvedAssetJobDefinition, assets: Sequence[dg.AssetsDefinition]
) -> list[dg.SensorDefinition]:
    """The sensors for arrivals and for what follows from them."""
    keys = [key for asset in assets for key in asset.keys]
    return [build_arrivals_sensor(settings, job, keys), build_follow_up_sensor(settings, keys)]
