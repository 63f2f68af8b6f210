"""After a patch cache could not be made: a probe of its store, and its report beside the failed run.

The sensor sees the failure and asks for the job; the job notes what it found as an observation of
`patch_cache`, with a link to the run that failed. The full report, which may name files and people, lies in
the work folder.
"""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import importlib.util
from typing import Any

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.runs import DATA_SET_TAG, step_at_its_end
from radiobject_assets.platform.assets.partitions import asset_key
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.automation.sensors import data_set_of
from radiobject_assets.platform.memory_pool import MEMORY_POOL
from radiobject_assets.platform.own_names import own_name, with_own_resources
from radiobject_assets.resources import DatasetResource, StorageResource

PROBE_JOB = "probe_after_failure"
PROBE_SENSOR = "failed_cache_sensor"
_PARTITION_TAG = "dagster/partition"


def build_probe_job(settings: DatasetSettings) -> dg.JobDefinition:
    """The job that probes the store of a patch cache that could not be made."""

    @dg.op(
        name=own_name(settings, "probe_store"),
        pool=MEMORY_POOL,
        config_schema={"failed_run": str, "split": str},
        description="Read the store as a loader does, item by item and in workers, and say what fails.",
        out=dg.Out(dg.Nothing),
    )
    @with_own_resources(settings)
    def probe_store(
        context: dg.OpExecutionContext, dataset: DatasetResource, storage: StorageResource
    ) -> None:
        if importlib.util.find_spec("torch") is None:
            context.log.warning("PyTorch is not installed here, so nothing was probed: pip install torch")
            return
        from radiobject_assets.probe.probing import probe_loader

        with shielded(dataset.work.root):
            result = probe_loader(
                dataset.config.store_uri,
                dataset.work.root / "probe",
                on_step=context.log.info,
                config=storage.config,
            )
        metadata: dict[str, Any] = {
            "summary": result.report.summary(),
            "what_to_do": "; ".join(result.report.advice()) or "nothing was found in what a loader reads",
            "failed_run": dg.MetadataValue.dagster_run(context.op_config["failed_run"]),
            "report": dg.MetadataValue.path(str(result.folder / "report.md")),
        }
        context.log_event(
            dg.AssetObservation(
                asset_key=asset_key(settings, "patch_cache"),
                partition=context.op_config["split"] or None,
                description="A probe after a failed run",
                metadata=metadata,
            )
        )

    @dg.job(
        name=own_name(settings, PROBE_JOB),
        tags={DATA_SET_TAG: data_set_of(settings)},
        executor_def=dg.in_process_executor,
        description="Why could a patch cache not be made? The store is read as a loader reads it.",
    )
    def probe_job() -> None:
        probe_store()

    return probe_job


def build_probe_sensor(settings: DatasetSettings, job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that asks for a probe, once for each failed run of `patch_cache`."""
    step = asset_key(settings, "patch_cache").to_python_identifier()

    @dg.run_failure_sensor(
        name=own_name(settings, PROBE_SENSOR),
        request_job=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="After a failed run of patch_cache: probes the store, and notes the report at the asset.",
    )
    def failed_cache_sensor(context: dg.RunFailureSensorContext) -> dg.RunRequest | dg.SkipReason:
        failed = context.dagster_run
        # a process that was killed has told of no failure: that is the very case to be looked into
        steps = {event.step_key for event in context.get_step_failure_events()} or {
            step_at_its_end(context.instance, failed)
        }
        if step not in steps:
            return dg.SkipReason("another step failed")
        return dg.RunRequest(
            run_key=failed.run_id,
            tags={DATA_SET_TAG: data_set_of(settings)},
            run_config={
                "ops": {
                    own_name(settings, "probe_store"): {
                        "config": {"failed_run": failed.run_id, "split": failed.tags.get(_PARTITION_TAG, "")}
                    }
                }
            },
        )

    return failed_cache_sensor
