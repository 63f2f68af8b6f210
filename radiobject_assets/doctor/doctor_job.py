"""The Dagster job `doctor` and its schedule: the same examination, told on the page of `dataset`."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import dagster as dg
from pydantic import Field

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG
from radiobject_assets.platform.assets.materialization_metadata import table
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.automation.schedules import DOCTOR_JOB
from radiobject_assets.platform.automation.sensors import data_set_of
from radiobject_assets.platform.own_names import own_name, with_own_resources
from radiobject_assets.resources import DatasetResource, MemoryBudgetResource, StorageResource

DOCTOR_WEEKLY = "doctor_weekly"
_SHOWN = ("kind", "severity", "about", "problem", "evidence", "mend", "id")


class Examination(dg.Config):
    """What is asked of a run."""

    voxels: bool = Field(
        default=False,
        description="Read every volume as well. The nightly verification does that in portions.",
    )
    fix: bool = Field(
        default=False,
        description="Mend what is safe to mend. What loses something is mended by the command alone: "
        "`radiobject-assets doctor STORE --dataset dataset.yaml --delete KIND:ID`.",
    )


def build_doctor_job(settings: DatasetSettings) -> dg.JobDefinition:
    """The job that examines a data set, and mends it where that is asked for."""

    @dg.op(
        name=own_name(settings, "examine_data_set"),
        description="Look at the store and everything beside it; tell what is wrong, or mend it.",
    )
    @with_own_resources(settings)
    def examine_data_set(
        context: dg.OpExecutionContext,
        config: Examination,
        dataset: DatasetResource,
        storage: StorageResource,
        memory: MemoryBudgetResource,
    ) -> None:
        import pandas as pd

        from radiobject_assets.diagnostics.findings import Report
        from radiobject_assets.doctor.examination import examine
        from radiobject_assets.doctor.examined import Beside, Examined
        from radiobject_assets.doctor.mending import MendOptions, mend

        with shielded(dataset.work.root):
            uri, beside = dataset.config.store_uri, Beside(dataset, storage)
            grace_s = dataset.config.upkeep.keep_arrays_hours * 3600

            def look() -> Report:
                every = list(examine(Examined(uri, beside, grace_s=grace_s), voxels=config.voxels))
                found = tuple(finding for one in every for finding in one.findings)
                return Report(len(every), "rules", found)

            report = look()
            mended = 0
            if config.fix and report.findings:
                options = MendOptions(memory_mb=memory.total_mb)
                done = mend(Examined(uri, beside, grace_s=grace_s), report.findings, options)
                mended = sum(note.stage == "mended" for note in done.notes)
                report = look()
            told = pd.DataFrame([one.to_json() for one in report.findings])
            metadata: dict[str, dg.MetadataValue] = {
                "summary": dg.MetadataValue.text(report.summary()),
                "findings": dg.MetadataValue.int(len(report.findings)),
                "mended": dg.MetadataValue.int(mended),
            }
            if report.findings:
                context.log.warning(report.summary())
                metadata["found"] = table(told[list(_SHOWN)])
                metadata["what_to_do"] = dg.MetadataValue.md("\n\n".join(report.advice()))
            else:
                context.log.info(report.summary())
            context.log_event(dg.AssetObservation(asset_key(settings, "dataset"), metadata=metadata))

    @dg.job(
        name=own_name(settings, DOCTOR_JOB),
        tags={DATA_SET_TAG: data_set_of(settings)},
        executor_def=dg.in_process_executor,
        description="What is damaged in the store and in what is beside it, and, if asked, mending it. The "
        "report is an observation on the page of `dataset`.",
    )
    def doctor_job() -> None:
        examine_data_set()

    return doctor_job


def build_doctor_schedule(settings: DatasetSettings) -> dg.ScheduleDefinition:
    """Once a week, without reading voxels and without mending."""
    return dg.ScheduleDefinition(
        name=own_name(settings, DOCTOR_WEEKLY),
        job_name=own_name(settings, DOCTOR_JOB),
        cron_schedule="53 5 * * 0",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every week: what is damaged in the store and in what is beside it. Nothing is mended.",
    )
