"""Nothing was left out because of the machine: a dead worker, too little memory, a changed file."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.platform.assets.materialization_metadata import counted, table
from radiobject_assets.platform.assets.partitions import arrival_partitions, asset_key
from radiobject_assets.platform.checks.outcome import check_result, failed, passed
from radiobject_assets.resources import DatasetResource, StorageResource

_CIRCUMSTANCES = (
    Reason.WORKER_DIED,
    Reason.WORKER_TIMEOUT,
    Reason.MEMORY_EXCEEDED,
    Reason.FILE_CHANGED,
    Reason.NOT_READABLE,
)
_RECOVERY = (
    "Materialize this partition again: what is in the store stays, the rest is tried once more. If it "
    "happens again, give the run more memory (RADIOBJECT_MEMORY_MB) or fewer workers (RADIOBJECT_WORKERS)."
)


def build_completeness_check(settings: DatasetSettings, name: str) -> dg.AssetChecksDefinition:
    """The check `nothing_left_out` on one collection; it never blocks."""

    @dg.asset_check(
        asset=asset_key(settings, name),
        name="nothing_left_out",
        partitions_def=arrival_partitions(settings),
        description="No series was given up because of the machine (a worker that died, memory, a file that "
        "changed) and not because of its images.",
    )
    def nothing_left_out(
        context: dg.AssetCheckExecutionContext, dataset: DatasetResource, storage: StorageResource
    ) -> dg.AssetCheckResult:
        key = context.partition_key

        def rule() -> dg.AssetCheckResult:
            tables = dataset.tables(storage)
            rows = tables.frame(tables.outcomes(key, name))
            reasons = rows.loc[rows["reason"].isin([str(reason) for reason in _CIRCUMSTANCES]), "reason"]
            numbers = {"series": len(rows), "given_up": len(reasons)}
            if reasons.empty:
                return passed(f"{len(rows)} series, none given up", numbers)
            counts = {str(reason): int(n) for reason, n in reasons.value_counts().items()}
            return failed(
                f"{len(reasons)} series were given up",
                _RECOVERY,
                {**numbers, "reasons": table(counted(counts))},
                severity=dg.AssetCheckSeverity.WARN,
            )

        return check_result(rule, work=dataset.work.arrival(key), what_to_do=_RECOVERY)

    return nothing_left_out
