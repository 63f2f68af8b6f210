"""Read performance: whether the patches that training asks for read as fast as their layout allows."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from dataclasses import asdict

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.platform.assets.materialization_metadata import table
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.checks.check_pages import taught
from radiobject_assets.platform.checks.outcome import check_result, result_of
from radiobject_assets.resources import DatasetResource, StorageResource


def build_reading_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The check `read_performance` on `dataset`; it never blocks."""
    wanted = settings.patches
    cut_from = None if wanted is None else {wanted.image, *([wanted.labels] if wanted.labels else [])}

    @dg.asset_check(
        asset=asset_key(settings, "dataset"),
        name="read_performance",
        description=taught(
            "Random patches of "
            + (" and ".join(sorted(cut_from)) if cut_from else "each collection")
            + " are read from the store and timed: `patch_ms` each, `amplification` is what had to be read "
            "for one voxel that was asked for. Training from the patch cache does not depend on it.",
            [kinds.COARSE_TILES, kinds.SLOW_READS],
        ),
    )
    def read_performance(dataset: DatasetResource, storage: StorageResource) -> dg.AssetCheckResult:
        def rule() -> dg.AssetCheckResult:
            import pandas as pd

            from radiobject_assets.diagnostics.inventory import read_inventory
            from radiobject_assets.diagnostics.read_performance import measure_reads

            config = dataset.config
            note = SnapshotNote.read(dataset.tables(storage))
            rows = read_inventory(config.store_uri, snapshot=note.name, ctx=storage.ctx)
            names = {str(name) for name in rows["collection"]}
            size = wanted.size_voxels if wanted is not None else (64, 64, 64)
            measured = [
                measure_reads(config.store_uri, name, snapshot=note.name, patch_voxels=size, ctx=storage.ctx)
                for name in sorted(names if cut_from is None else names & cut_from)
            ]
            numbers: dict[str, object] = {}
            for one in measured:
                numbers[f"{one.collection}_patch_ms"] = one.patch_ms
                numbers[f"{one.collection}_mb_per_s"] = one.mb_per_s
                numbers[f"{one.collection}_amplification"] = one.amplification
            if measured:
                numbers["reads"] = table(pd.DataFrame([asdict(one) for one in measured]))
            findings = tuple(
                Finding(
                    kinds.COARSE_TILES if one.tiles_are_coarse else kinds.SLOW_READS,
                    f"collection {one.collection}",
                    one.problem,
                    collection=one.collection,
                )
                for one in measured
                if one.problem
            )
            return result_of(Report(len(measured), "collections", findings), numbers)

        return check_result(rule, work=dataset.work.root, severity=dg.AssetCheckSeverity.WARN)

    return read_performance
