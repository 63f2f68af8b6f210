"""What runs by the clock: standing checks every hour, at night with a full verification, and upkeep.

All are on by default, and can be switched off under Automation.
"""

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
# not as the asset is called: Dagster wants another name for a job than for a step
UPKEEP_JOB = "nightly_upkeep"
DOCTOR_JOB = "doctor"
"""See `doctor.doctor_job`; who waits for runs of others, or forgets them, has to know it."""
HOURLY, NIGHTLY = "standing_checks_hourly", "verification_nightly"
UPKEEP = "upkeep_nightly"
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


def build_upkeep_job(settings: DatasetSettings) -> UnresolvedAssetJobDefinition:
    """The job that makes `upkeep`, and profiles what there was no time for when it came in."""
    made = [asset_key(settings, name) for name in ("upkeep", "profile")]
    return dg.define_asset_job(
        own_name(settings, UPKEEP_JOB),
        tags={DATA_SET_TAG: data_set_of(settings)},
        # its checks run every hour anyway
        selection=dg.AssetSelection.assets(*made).without_checks(),
        executor_def=dg.in_process_executor,
        description="Merges the store's tables, removes what nobody names, and profiles what is left.",
    )


def build_schedules(settings: DatasetSettings) -> list[dg.ScheduleDefinition]:
    """The schedules of the standing checks, and of upkeep."""
    upkeep = dg.ScheduleDefinition(
        name=own_name(settings, UPKEEP),
        job_name=own_name(settings, UPKEEP_JOB),
        cron_schedule="23 4 * * *",  # after the verification, which reads the whole store
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every night: keeps the store small and quick, and the work folder.",
    )
    checks = [
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
    return [*checks, upkeep]
