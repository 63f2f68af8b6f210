"""Standing checks: rules over the whole data set, without a partition, run by anybody and by the clock.

A check on an arrival guards it inside its run, seconds after it came in. These answer what somebody asks
months later: may I train on this? They are no part of an arrival's run, whose cost must not grow with the
store.
"""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.diagnostics.rule_registry import RULES, StandingRule
from radiobject_assets.platform.assets.partitions import ALL_VOLUMES, asset_key, collection_names
from radiobject_assets.platform.checks.check_pages import taught
from radiobject_assets.platform.checks.collected_outcomes import collect_outcomes
from radiobject_assets.platform.checks.outcome import check_result, result_of
from radiobject_assets.platform.checks.surroundings import inspection_of
from radiobject_assets.platform.own_names import with_own_resources
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
        elif asset := _guarded(settings, rule):
            checks.append(_build_check(settings, rule, asset))
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
            if _guarded(settings, r) == "raw_dicom"
        ),
    ]


def _guarded(settings: DatasetSettings, rule: StandingRule) -> str:
    """The asset that a rule has its check on; "" where the data set has nothing that it could look at."""
    if rule.guards == "archives":
        return "raw_dicom" if settings.sources or settings.receiver else ""
    return "" if rule.guards == "patch_cache" and settings.patches is None else rule.guards


def standing_keys(settings: DatasetSettings) -> list[dg.AssetCheckKey]:
    """Keys of all standing checks."""
    return [key for check in build_standing_checks(settings) for key in check.check_keys]


def _build_check(settings: DatasetSettings, rule: StandingRule, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset_key(settings, name), name=rule.name, description=taught(rule.description, rule.kinds)
    )
    @with_own_resources(settings)
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
        description=taught(
            "Every volume of every arrival in turn, some each time: its voxels have the digest that was "
            "written, its array and its row say the same, the row is the one that was written, nothing that "
            "came is gone, and its values are plausible. Goes on where it stopped.",
            (*kinds.OF_VOLUMES, *kinds.OF_VALUES),
        ),
    )
    @with_own_resources(settings)
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
    outcomes = collect_outcomes(tables, name, dataset.work.root).by_arrival()
    return verify_portion(
        uri,
        rows,
        tables.frame(tables.verified(name)) if tables.has(tables.verified(name)) else None,
        collection=name,
        # what came with a delivery that was taken away, and was deleted, is not missed
        arrivals=outcomes.keys() & there,
        outcomes_of=outcomes.__getitem__,
        now_ms=lambda: int(time.time() * 1000),
        out_of_time=lambda: time.monotonic() > deadline,
        keep=lambda merge: tables.change_frame(tables.verified(name), merge),
        ctx=storage.ctx,
    )
