"""Nothing is left behind: every arrival that lies in the landing zone is taken in, or it is said why not.

It stands without anybody's click: the tick that asks for runs tells it, and Dagster's UI can run it.
"""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
from radiobject_assets.platform.arrivals.left_behind import LeftBehind, left_behind
from radiobject_assets.platform.assets.materialization_metadata import table
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.checks.outcome import check_result, failed, passed
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, StorageResource

if TYPE_CHECKING:
    import pandas as pd

LEFT_BEHIND_CHECK = "nothing_left_behind"


def build_left_behind_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The standing check `nothing_left_behind` on `raw_dicom`, over all arrivals."""

    @dg.asset_check(
        asset=asset_key(settings, "raw_dicom"),
        name=LEFT_BEHIND_CHECK,
        description="Every arrival of the landing zone is taken in as it lies there, or on its way. Told "
        "anew by the sensor whenever that changes, and every day.\n\n"
        "**When it is yellow or red**, the table says for each arrival that is not in since when, after how "
        "many tries, with which error, and whether it is tried again by itself. What is wrong with the files "
        "is put right in the landing zone: they are taken in again when they are quiet.",
    )
    @with_own_resources(settings)
    def nothing_left_behind(dataset: DatasetResource, storage: StorageResource) -> dg.AssetCheckResult:
        def rule() -> dg.AssetCheckResult:
            rows = ArrivalTable(dataset.tables(storage)).rows
            return _result(left_behind(rows, time.time(), dataset.config.arrivals.retry_after_s))

        return check_result(rule, work=dataset.work.root)

    return nothing_left_behind


def evaluation(settings: DatasetSettings, left: LeftBehind) -> dg.AssetCheckEvaluation:
    """What the check says, as an event that needs no run."""
    result = _result(left)
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(settings, "raw_dicom"),
        check_name=LEFT_BEHIND_CHECK,
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )


def _result(left: LeftBehind) -> dg.AssetCheckResult:
    numbers: dict[str, Any] = {"arrivals": left.arrivals, "taken_in": left.achieved}
    numbers |= {kind.replace(" ", "_"): count for kind, count in left.counts().items()}
    if left.items:
        numbers["left_behind"] = table(_shown(left))
    if not left.arrivals:
        return failed(
            left.sentence(),
            "Put a folder or an archive into the landing zone, and see that the sensors are switched on.",
            numbers,
            severity=dg.AssetCheckSeverity.WARN,
        )
    if left.is_nothing:
        return passed(left.sentence(), numbers)
    severity = dg.AssetCheckSeverity.ERROR if left.is_error else dg.AssetCheckSeverity.WARN
    return failed(left.sentence(), left.advice(), numbers, severity=severity)


def _shown(left: LeftBehind) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "partition": item.partition,
                "arrival": item.key,
                "what": item.kind,
                "since": _time(item.since_s),
                "tries": item.attempts,
                "next_try": _time(item.next_try_s) if item.kind == "tried again" else "",
                "error": item.error,
            }
            for item in left.shown()
        ]
    )


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC" if seconds else ""
