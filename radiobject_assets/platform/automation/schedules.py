"""When the standing checks run: every hour, and at night with a full verification; both on by default."""

from __future__ import annotations

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.checks.standing import VERIFY_TAG, standing_keys

STANDING_JOB = "standing_checks"
HOURLY, NIGHTLY = "standing_checks_hourly", "verification_nightly"
# Long enough for some 300 GB of a local disk; the next night goes on.
_NIGHT_S = 2 * 3600
# What was found unsound comes first, so that this is enough to see that it was mended.
_HOUR_S = 20


def build_schedules(settings: DatasetSettings) -> list[dg.ScheduleDefinition]:
    """The schedules of the standing checks."""
    job = dg.define_asset_job(
        STANDING_JOB,
        selection=dg.AssetSelection.checks(*standing_keys(settings)),
        executor_def=dg.in_process_executor,
        description="Every standing check: may I train on this?",
    )
    return [
        dg.ScheduleDefinition(
            name=name,
            job=job,
            cron_schedule=cron,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            tags={VERIFY_TAG: str(seconds)},
            description=description,
        )
        for name, cron, seconds, description in (
            (HOURLY, "17 * * * *", _HOUR_S, "Every standing check, with a little of the full verification."),
            (NIGHTLY, "43 1 * * *", _NIGHT_S, "Every standing check, with hours of the full verification."),
        )
    ]
