"""Split leakage: nobody, and nothing of anybody, is on two sides."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import json

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets.materialization_metadata import counted, table
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.assets.splits import current_splits
from radiobject_assets.platform.checks.outcome import check_result, failed, passed
from radiobject_assets.resources import DatasetResource, StorageResource

_RECOVERY = (
    "Two subject ids are probably one person: give both the same id (or leave one out) and ingest again. "
    "work/leakage.parquet names them. Until then no patch cache is built."
)


def build_leakage_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The blocking check `no_leakage` on `splits`."""

    @dg.asset_check(
        asset=asset_key(settings, "splits"),
        name="no_leakage",
        blocking=True,
        description="No subject, group, study, series or identical image is in two splits.",
    )
    def no_leakage(dataset: DatasetResource, storage: StorageResource) -> dg.AssetCheckResult:
        def rule() -> dg.AssetCheckResult:
            from radiobject_assets.diagnostics.inventory import read_inventory
            from radiobject_assets.training.split_leakage import find_leakage

            config = dataset.config
            note = SnapshotNote.read(dataset.tables(storage))
            rows = read_inventory(config.store_uri, snapshot=note.name, ctx=storage.ctx)
            splits = current_splits(dataset.tables(storage))
            # who was left out on purpose is in no split and so on no side
            groups = dict(zip(splits["obs_subject_id"], map(json.loads, splits["groups"]), strict=True))
            present = rows[rows["obs_subject_id"].isin(splits["obs_subject_id"])]
            found = find_leakage(splits, present, groups)
            numbers = {"subjects": len(splits), "volumes": len(rows), "findings": len(found)}
            if found.empty:
                return passed(f"{len(splits)} subjects, none on two sides", numbers)
            kept = dataset.work.root / "leakage.parquet"
            found.astype({"splits": str, "subjects": str}).to_parquet(kept)
            kinds = {str(kind): int(n) for kind, n in found["kind"].value_counts().items()}
            return failed(
                f"{len(found)} links between splits: {_listed(kinds)}",
                _RECOVERY,
                {**numbers, "kinds": table(counted(kinds)), "file": dg.MetadataValue.path(str(kept))},
            )

        return check_result(rule, work=dataset.work.root, what_to_do=_RECOVERY)

    return no_leakage


def _listed(kinds: dict[str, int]) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
