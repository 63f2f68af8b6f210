"""Split leakage: nobody, and nothing of anybody, is on two sides."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import json

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.assets.snapshot import SnapshotNote
from radiobject_assets.platform.assets.splits import pinned_splits
from radiobject_assets.platform.checks.check_pages import taught
from radiobject_assets.platform.checks.outcome import check_result, result_of
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, StorageResource


def build_leakage_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The blocking check `no_leakage` on `splits`."""

    @dg.asset_check(
        asset=asset_key(settings, "splits"),
        name="no_leakage",
        blocking=True,
        description=taught(
            "No subject, group, study, series or identical image is in two splits, and everybody who was to "
            "be divided is in one. While it is red, no patch cache is built.",
            [kinds.SUBJECT_TWICE, kinds.GROUP_DIVIDED, kinds.ONE_PERSON_TWICE, kinds.UNASSIGNED],
        ),
    )
    @with_own_resources(settings)
    def no_leakage(dataset: DatasetResource, storage: StorageResource) -> dg.AssetCheckResult:
        def rule() -> dg.AssetCheckResult:
            from radiobject_assets.diagnostics.inventory import read_inventory
            from radiobject_assets.diagnostics.split_rules import leakage_findings
            from radiobject_assets.training.split_leakage import find_leakage

            config = dataset.config
            tables = dataset.tables(storage)
            divided = pinned_splits(tables)
            splits = divided.rows
            # of what was divided: who came since is in no split yet, and in no patch cache
            snapshot, distrusted = divided.snapshot, divided.distrusted_arrivals
            if not snapshot:  # a table of before it was noted, or of nobody
                note = SnapshotNote.read(tables)
                snapshot, distrusted = note.name, note.distrusted_arrivals
            rows = read_inventory(config.store_uri, snapshot=snapshot, ctx=storage.ctx)
            groups = dict(zip(splits["obs_subject_id"], map(json.loads, splits["groups"]), strict=True))
            left_out = set(rows.loc[rows["arrival"].isin(distrusted), "obs_subject_id"])
            on_purpose = rows["obs_subject_id"].isin(left_out - set(splits["obs_subject_id"]))
            found = find_leakage(splits, rows[~on_purpose], groups)
            numbers = {"volumes": len(rows)}
            kept = dataset.work.root / "leakage.parquet"
            if found.empty:
                kept.unlink(missing_ok=True)
                return result_of(Report(len(splits), "subjects"), numbers)
            found.assign(**{name: found[name].map(json.dumps) for name in ("splits", "subjects")}).to_parquet(
                kept
            )
            findings = leakage_findings(found)
            file = {"file": dg.MetadataValue.path(str(kept))}
            return result_of(Report(len(splits), "subjects", findings), {**numbers, **file})

        return check_result(rule, work=dataset.work.root)

    return no_leakage
