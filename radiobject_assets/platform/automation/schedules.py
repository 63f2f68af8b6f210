"""When the standing checks run: every hour, and at night with a full verification; both on by default."""

from __future__ import annotations

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG
from radiobject_assets.platform.assets.partitions import asset_key, collection_names
from radiobject_assets.platform.automation.sensors import data_set_of
from radiobject_assets.platform.checks.reading import READING_CHECK
from radiobject_assets.platform.checks.standing import VERIFY_TAG, standing_keys
from radiobject_assets.platform.dagster_internals import UnresolvedAssetJobDefinition
from radiobject_assets.platform.own_names import own_name

STANDING_JOB = "standing_checks"
HOURLY, NIGHTLY = "standing_checks_hourly", "verification_nightly"
# Long enough for some 300 GB of a local disk; the next night goes on.
_NIGHT_S = 2 * 3600
# What was found unsound comes first, so that this is enough to see that it was mended.
_HOUR_S = 20


def build_standing_job(settings: DatasetSettings) -> UnresolvedAssetJobDefinition:
    """The job of all standing checks, and of the one whose worth is its history: how fast volumes read."""
    reading = dg.AssetCheckKey(asset_key(settings, "dataset"), READING_CHECK)
    return dg.define_asset_job(
        own_name(settings, STANDING_JOB),
        tags={DATA_SET_TAG: data_set_of(settings)},
        selection=dg.AssetSelection.checks(*standing_keys(settings), reading),
        executor_def=dg.in_process_executor,
        description="Every standing check: may I train on this?",
    )


def build_schedules(settings: DatasetSettings) -> list[dg.ScheduleDefinition]:
    """The schedules of the standing checks."""
    return [
        dg.ScheduleDefinition(
            name=own_name(settings, name),
            job_name=own_name(settings, STANDING_JOB),
            cron_schedule=cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            tags={VERIFY_TAG: str(max(1, seconds // len(collection_names(settings))))},
            description=description,
        )
        for name, cron, seconds, description in (
            (HOURLY, "17 * * * *", _HOUR_S, "Every standing check, with a little of the full verification."),
            (
                NIGHTLY,
                "43 1 * * *",
                _NIGHT_S,
                "Every standing check, with two hours of the full verification.",
            ),
        )
    ]
