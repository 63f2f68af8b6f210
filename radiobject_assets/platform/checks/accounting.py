"""Every file of an arrival is accounted for: in exactly one series, or unreadable with a reason."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets.arrival import plan_of
from radiobject_assets.platform.assets.partitions import arrival_partitions, asset_key
from radiobject_assets.platform.checks.outcome import check_result, failed, passed
from radiobject_assets.resources import DatasetResource, StorageResource

_RECOVERY = "Files came or went after the scan: materialize raw_dicom and what follows it for this partition."


def build_accounting_check(settings: DatasetSettings) -> dg.AssetChecksDefinition:
    """The check `every_file_accounted_for` on `series`."""

    @dg.asset_check(
        asset=asset_key(settings, "series"),
        name="every_file_accounted_for",
        partitions_def=arrival_partitions(settings),
        description="The arrival's files are those of its series, the unreadable ones and its tables.",
    )
    def every_file_accounted_for(
        context: dg.AssetCheckExecutionContext, dataset: DatasetResource, storage: StorageResource
    ) -> dg.AssetCheckResult:
        key = context.partition_key

        def rule() -> dg.AssetCheckResult:
            from radiobject_assets.imaging.files.archives import file_on_disk
            from radiobject_assets.ingest.naming.subject_table import find_subject_tables

            plan = plan_of(dataset, storage, key)
            zone = dataset.landing(storage)
            arrival = zone.held(key)
            in_series = [path for planned in plan.planned for path in planned.series.files]
            unreadable = [item.path for item in plan.unreadable]
            tables = find_subject_tables(arrival.place, dataset.config.subjects)
            counted = [*in_series, *unreadable, *tables]
            present = zone.state(zone.find(key)).n_files
            numbers = {
                "files": present,
                "in_series": len(in_series),
                "unreadable": len(unreadable),
                "subject_tables": len(tables),
                "counted_twice": len(counted) - len(set(counted)),
            }
            # the members of an archive are files of their own; on disk they are one
            on_disk = {file_on_disk(path) for path in counted}
            if len(set(counted)) == len(counted) and len(on_disk) == present:
                return passed(f"all {present} files are accounted for", numbers)
            return failed(f"{present} files, but {len(on_disk)} are accounted for", _RECOVERY, numbers)

        return check_result(rule, work=dataset.work.arrival(key), what_to_do=_RECOVERY)

    return every_file_accounted_for
