"""Standing checks: rules over the whole data set, without a partition, run by anybody and by the clock.

A check on an arrival guards it inside its run, seconds after it came in. These answer what somebody asks
months later: may I train on this? They are no part of an arrival's run, whose cost must not grow with the
store.
"""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.diagnostics.rule_registry import RULES, StandingRule
from radiobject_assets.platform.assets.partitions import ALL_VOLUMES, asset_key, collection_names
from radiobject_assets.platform.checks.outcome import check_result, result_of
from radiobject_assets.platform.checks.surroundings import arrivals_with_outcomes, inspection_of
from radiobject_assets.resources import DatasetResource, StorageResource

VERIFY_TAG = "radiobject/verify_seconds"
"""Tag of a run that says how long its full verification may take, for each collection."""
# What a person waits for who clicks "Execute", and what an hourly run may take of the machine.
_PORTION_S = 60.0

VERIFIED = "volumes_verified"


def build_standing_checks(settings: DatasetSettings) -> list[dg.AssetChecksDefinition]:
    """All of them, on the assets that they guard."""
    checks = []
    for rule in RULES:
        if rule.guards == "collection":
            checks += [_build_check(settings, rule, name) for name in collection_names(settings)]
        elif rule.guards != "patch_cache" or settings.patches is not None:
            checks.append(_build_check(settings, rule, rule.guards))
    return [*checks, *(_build_verification(settings, name) for name in collection_names(settings))]


def keys_apart_from_arrivals(settings: DatasetSettings) -> list[dg.AssetCheckKey]:
    """The standing checks on assets of an arrival: its run leaves them out."""
    of_collections = [VERIFIED, *(rule.name for rule in RULES if rule.guards == "collection")]
    return [
        *(
            dg.AssetCheckKey(asset_key(settings, n), c)
            for n in collection_names(settings)
            for c in of_collections
        ),
        *(
            dg.AssetCheckKey(asset_key(settings, "raw_dicom"), r.name)
            for r in RULES
            if r.guards == "raw_dicom"
        ),
    ]


def standing_keys(settings: DatasetSettings) -> list[dg.AssetCheckKey]:
    """Keys of all standing checks."""
    return [key for check in build_standing_checks(settings) for key in check.check_keys]


def _build_check(settings: DatasetSettings, rule: StandingRule, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset_key(settings, name), name=rule.name, description=rule.description)
    def standing(
        context: dg.AssetCheckExecutionContext, dataset: DatasetResource, storage: StorageResource
    ) -> dg.AssetCheckResult:
        return check_result(
            lambda: result_of(
                rule.look(inspection_of(dataset, storage, context.instance), name),
                tables=dataset.tables(storage),
            ),
            work=dataset.work.root,
        )

    return standing


def _build_verification(settings: DatasetSettings, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(settings, name),
        name=VERIFIED,
        description="Every volume of every arrival in turn, some each time: its voxels have the digest that "
        "was written, its array and its row say the same, the row is the one that was written, nothing that "
        "came is gone, and its values are plausible. Goes on where it stopped.",
    )
    def volumes_verified(
        context: dg.AssetCheckExecutionContext, dataset: DatasetResource, storage: StorageResource
    ) -> dg.AssetCheckResult:
        seconds = float(context.run.tags.get(VERIFY_TAG, _PORTION_S))
        return check_result(
            lambda: result_of(_verify(dataset, storage, name, seconds), tables=dataset.tables(storage)),
            work=dataset.work.root,
        )

    return volumes_verified


def _verify(dataset: DatasetResource, storage: StorageResource, name: str, seconds: float) -> Report:
    from radiobject_assets.diagnostics.inventory import read_inventory
    from radiobject_assets.diagnostics.verification_portions import verify_portion
    from radiobject_assets.store import is_store

    uri, tables = dataset.config.store_uri, dataset.tables(storage)
    if not is_store(uri, storage.ctx):
        return Report(0, "volumes")
    deadline = time.monotonic() + seconds
    by_modality = name == ALL_VOLUMES and name not in dataset.config.collections
    rows = read_inventory(uri, collections=None if by_modality else [name], ctx=storage.ctx)
    landing = dataset.landing(storage)
    there = set(rows["arrival"]) | (set() if landing.problem() else landing.listing().keys)
    done = verify_portion(
        uri,
        rows,
        tables.frame(tables.verified(name)) if tables.has(tables.verified(name)) else None,
        collection=name,
        # what came with a delivery that was taken away, and was deleted, is not missed
        arrivals=[key for key in arrivals_with_outcomes(tables, name) if key in there],
        outcomes_of=lambda arrival: tables.frame(tables.outcomes(arrival, name)),
        now_ms=int(time.time() * 1000),
        out_of_time=lambda: time.monotonic() > deadline,
        ctx=storage.ctx,
    )
    tables.put_frame(tables.verified(name), done.progress)
    return done.report
