"""Read performance: whether the patches that training asks for read as fast as their layout allows."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import read_kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.platform.assets.materialization_metadata import table
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.checks.check_pages import taught
from radiobject_assets.platform.checks.outcome import check_result, result_of
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, StorageResource, WorkingTables

if TYPE_CHECKING:
    from radiobject_assets.diagnostics.read_performance import ReadPerformance

READING_CHECK = "read_performance"


def build_reading_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The check `read_performance` on `dataset`; it never blocks."""
    wanted = settings.patches
    cut_from = None if wanted is None else {wanted.image, *([wanted.labels] if wanted.labels else [])}

    @dg.asset_check(
        asset=asset_key(settings, "dataset"),
        name=READING_CHECK,
        description=taught(
            "Random patches of "
            + (" and ".join(sorted(cut_from)) if cut_from else "each collection")
            + " are read from the store and timed, beside a plain file of as many bytes; that ratio is "
            "compared with its past. `patch_ms` is the time of each, `amplification` what had to be read for "
            "one voxel that was asked for. What makes them slow is told as `radiobject-assets "
            "diagnose-reads` tells it. Training from the patch cache does not depend on it.",
            [read_kinds.READS_SLOWED, read_kinds.NOT_MEASURED, *read_kinds.CAUSES],
        ),
    )
    @with_own_resources(settings)
    def read_performance(dataset: DatasetResource, storage: StorageResource) -> dg.AssetCheckResult:
        def rule() -> dg.AssetCheckResult:
            import pandas as pd

            from radiobject_assets.diagnostics.inventory import read_inventory
            from radiobject_assets.diagnostics.read_performance import measure_reads
            from radiobject_assets.diagnostics.reads.diagnosis import diagnose_reads
            from radiobject_assets.store import is_store

            config = dataset.config
            if not is_store(config.store_uri, storage.ctx):
                return result_of(Report(0, "collections"))
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
                numbers[f"{one.collection}_times_plain_read"] = one.times_plain_read
                numbers[f"{one.collection}_amplification"] = one.amplification
            if measured:
                numbers["reads"] = table(pd.DataFrame([asdict(one) for one in measured]))
            findings: list[Finding] = []
            if measured:
                diagnosis = diagnose_reads(
                    config.store_uri,
                    name="STORE",  # where it lies is nobody's business who reads a check
                    collections=[one.collection for one in measured],
                    patterns=(),
                    patch_voxels=size,
                    snapshot=note.name,
                    ctx=storage.ctx,
                )
                findings += diagnosis.report().findings
            findings += _slowed(dataset.tables(storage), measured)
            findings += [
                Finding(read_kinds.NOT_MEASURED, f"collection {name}", collection=name)
                for name in sorted((cut_from or set()) - names)
            ]
            return result_of(Report(len(measured), "collections", tuple(findings)), numbers)

        return check_result(rule, work=dataset.work.root, severity=dg.AssetCheckSeverity.WARN)

    return read_performance


def _slowed(tables: WorkingTables, measured: "Sequence[ReadPerformance]") -> list[Finding]:
    """Collections that read slower than they used to; what was measured now becomes part of their past."""
    from radiobject_assets.diagnostics.yardstick import KEPT, usual_factor

    found: dict[str, Finding] = {}

    def remember(text: str | None) -> str:
        found.clear()
        kept = json.loads(text or "{}")
        for one in measured:
            of = [list(one.patch_voxels), list(one.tile_voxels)]
            past = kept.get(one.collection, {})
            ratios = past.get("times_plain_read", []) if past.get("of") == of else []
            if factor := usual_factor(ratios, one.times_plain_read):
                evidence = f"{factor:.0f} times as long as usual, {one.patch_ms:.1f} ms a patch"
                found[one.collection] = Finding(
                    read_kinds.READS_SLOWED,
                    f"collection {one.collection}",
                    evidence,
                    collection=one.collection,
                )
            kept[one.collection] = {"of": of, "times_plain_read": [*ratios, one.times_plain_read][-KEPT:]}
        return json.dumps(kept)

    tables.change_text(tables.read_performance, remember)
    return list(found.values())
