"""Every file of an arrival is accounted for: in exactly one series, or unreadable with a reason."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
from typing import TYPE_CHECKING

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.landing.local_zone import Arrival, Landing
from radiobject_assets.platform.assets.arrival import plan_of
from radiobject_assets.platform.assets.arrivals_of_run import arrivals_of
from radiobject_assets.platform.assets.partitions import ACCOUNTING_CHECK, arrival_partitions, asset_key
from radiobject_assets.platform.checks.check_pages import LISTED_OF_MANY, taught
from radiobject_assets.platform.checks.outcome import check_result, result_of
from radiobject_assets.platform.dagster_internals import EvaluationOfEverything
from radiobject_assets.platform.own_names import with_own_resources
from radiobject_assets.resources import DatasetResource, StorageResource

if TYPE_CHECKING:
    from radiobject_assets.diagnostics.arrival_rules import FileCount


def build_accounting_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The check `every_file_accounted_for` on `series`."""

    @dg.asset_check(
        asset=asset_key(settings, "series"),
        name=ACCOUNTING_CHECK,
        partitions_def=arrival_partitions(settings),
        description=taught(
            "Every file of an arrival is in exactly one series, or listed without an image, or a table of "
            "its subjects. Without a partition: of every scanned arrival that is in the landing zone. "
            + LISTED_OF_MANY,
            [kinds.UNACCOUNTED],
        ),
    )
    @with_own_resources(settings)
    def every_file_accounted_for(
        context: dg.AssetCheckExecutionContext, dataset: DatasetResource, storage: StorageResource
    ) -> dg.AssetCheckResult:
        tables = dataset.tables(storage)
        is_of_run = context.has_partition_key
        partition = context.partition_key if is_of_run else ""

        def rule() -> dg.AssetCheckResult:
            from radiobject_assets.diagnostics.arrival_rules import every_file_accounted_for as look

            zone = dataset.landing(storage)
            if is_of_run:
                keys = arrivals_of(partition, context.run.tags, tables).keys
                there = zone.those_of(keys)
            else:
                there = {arrival.key: arrival for arrival in zone.arrivals()}
                keys = tuple(key for key in there if tables.has(tables.scan(key)))
            found = [_count(dataset, storage, zone, there.get(key) or zone.find(key)) for key in keys]
            return result_of(look(found), tables=tables)

        result = check_result(rule, work=dataset.work.arrival(partition) if is_of_run else dataset.work.root)
        if is_of_run:
            return result
        return EvaluationOfEverything.of(
            dg.AssetCheckKey(asset_key(settings, "series"), ACCOUNTING_CHECK), result
        )

    return every_file_accounted_for


def _count(
    dataset: DatasetResource, storage: StorageResource, zone: Landing, arrival: Arrival
) -> "FileCount":
    from radiobject_assets.diagnostics.arrival_rules import FileCount
    from radiobject_assets.imaging.files.archives import file_on_disk
    from radiobject_assets.ingest.naming.subject_table import find_subject_tables

    plan = plan_of(dataset, storage, arrival.key)
    in_series = [path for planned in plan.planned for path in planned.series.files]
    unreadable = [item.path for item in plan.unreadable]
    tables = find_subject_tables(zone.held(arrival).place, dataset.config.subjects)
    counted = [*in_series, *unreadable, *tables]
    return FileCount(
        arrival=arrival.key,
        files=zone.state(arrival).n_files,
        in_series=len(in_series),
        unreadable=len(unreadable),
        subject_tables=len(tables),
        counted_twice=len(counted) - len(set(counted)),
        # the members of an archive are files of their own; on disk they are one
        on_disk=len({file_on_disk(path) for path in counted}),
    )
