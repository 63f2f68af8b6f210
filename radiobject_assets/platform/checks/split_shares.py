"""Shares of the splits: each has subjects that training can use."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.assets.splits import current_splits
from radiobject_assets.platform.checks.outcome import check_result, failed, passed
from radiobject_assets.resources import DatasetResource, StorageResource

_RECOVERY = (
    "More subjects that training can use fill the empty splits by themselves: those who are placed stay. Or "
    "name fewer splits under `split` in dataset.yaml, or write a table for `split.by_hand`."
)


def build_shares_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The check `every_split_is_filled` on `splits`; it never blocks."""

    @dg.asset_check(
        asset=asset_key(settings, "splits"),
        name="every_split_is_filled",
        description="Each split has subjects with what `patches` in dataset.yaml asks for.",
    )
    def every_split_is_filled(dataset: DatasetResource, storage: StorageResource) -> dg.AssetCheckResult:
        def rule() -> dg.AssetCheckResult:
            config = dataset.config
            rows = current_splits(dataset.tables(storage))
            usable = rows.loc[rows["is_trainable"], "split"].value_counts()
            counts = {name: int(usable.get(name, 0)) for name in config.split.shares}
            numbers = {"subjects": len(rows), "trainable": sum(counts.values()), **counts}
            empty = [name for name, count in counts.items() if not count]
            if not empty:
                return passed(", ".join(f"{name} {count}" for name, count in counts.items()), numbers)
            return failed(
                f"nothing can be trained or tested on in {', '.join(empty)}: {sum(counts.values())} of "
                f"{len(rows)} subjects have {_wanted(config)}; these are too few for {len(counts)} splits, "
                "or belong together (split.group_by)",
                _RECOVERY,
                numbers,
            )

        return check_result(rule, work=dataset.work.root, what_to_do=_RECOVERY)

    return every_split_is_filled


def _wanted(config: DatasetSettings) -> str:
    if config.patches is None:
        return "a volume"
    if config.patches.labels is None:
        return f"a volume of {config.patches.image}"
    return f"a volume of {config.patches.image} with labels of {config.patches.labels} on it"
