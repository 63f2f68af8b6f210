"""Read performance: whether patches of the snapshot's volumes read as fast as their layout allows."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from dataclasses import asdict

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets.materialization_metadata import table
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.checks.outcome import check_result, failed, passed
from radiobject_assets.resources import DatasetResource, StorageResource

_RECOVERY = "Reading is slower than it could be; nothing is wrong with the data."


def build_reading_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The check `read_performance` on `dataset`; it never blocks."""

    @dg.asset_check(
        asset=asset_key(settings, "dataset"),
        name="read_performance",
        description="Random patches of each collection are read and timed; tiles that don't suit are named.",
    )
    def read_performance(dataset: DatasetResource, storage: StorageResource) -> dg.AssetCheckResult:
        def rule() -> dg.AssetCheckResult:
            import pandas as pd

            from radiobject_assets.diagnostics.inventory import read_inventory
            from radiobject_assets.diagnostics.read_performance import measure_reads

            config = dataset.config
            note = SnapshotNote.read(dataset.tables(storage))
            rows = read_inventory(config.store_uri, snapshot=note.name, ctx=storage.ctx)
            size = config.patches.size_voxels if config.patches is not None else (64, 64, 64)
            measured = [
                measure_reads(
                    config.store_uri, str(name), snapshot=note.name, patch_voxels=size, ctx=storage.ctx
                )
                for name in sorted(set(rows["collection"]))
            ]
            numbers: dict[str, object] = {}
            for one in measured:
                numbers[f"{one.collection}_patch_ms"] = one.patch_ms
                numbers[f"{one.collection}_mb_per_s"] = one.mb_per_s
                numbers[f"{one.collection}_amplification"] = one.amplification
            if measured:
                numbers["reads"] = table(pd.DataFrame([asdict(one) for one in measured]))
            slow = [one for one in measured if one.problem]
            if not slow:
                return passed(f"{len(measured)} collections read well", numbers)
            return failed(
                "; ".join(f"{one.collection}: {one.problem}" for one in slow),
                " ".join(one.what_to_do for one in slow),
                numbers,
                severity=dg.AssetCheckSeverity.WARN,
            )

        return check_result(
            rule, work=dataset.work.root, what_to_do=_RECOVERY, severity=dg.AssetCheckSeverity.WARN
        )

    return read_performance
