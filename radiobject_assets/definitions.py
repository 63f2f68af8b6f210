"""Wiring: one dataset.yaml in, Dagster definitions out. Nothing is computed here.

`build_definitions` makes everything fresh, so a test runs the real wiring with other resources. The
module's `defs`, which Dagster loads, are those of the file that `RADIOBJECT_DATASET` names; without it
`./dataset.yaml`, then the demo's.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.doctor.doctor_job import build_doctor_job, build_doctor_schedule
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.forgetting.forget_job import build_forget_job
from radiobject_assets.platform.assets import build_assets
from radiobject_assets.platform.automation import build_arrival_job, build_sensors, with_conditions
from radiobject_assets.platform.automation.archive_sensor import build_fetch_job, build_sources_sensor
from radiobject_assets.platform.automation.probe_after_failure import build_probe_job, build_probe_sensor
from radiobject_assets.platform.automation.schedules import (
    build_schedules,
    build_standing_job,
    build_upkeep_job,
)
from radiobject_assets.platform.checks import build_checks
from radiobject_assets.platform.history_retention import build_history_schedule
from radiobject_assets.platform.own_names import own_name
from radiobject_assets.resources import (
    ComputeResource,
    DatasetResource,
    MemoryBudgetResource,
    StorageResource,
)

DATASET_VARIABLE = "RADIOBJECT_DATASET"
MEMORY_VARIABLE = "RADIOBJECT_MEMORY_MB"
WORKERS_VARIABLE = "RADIOBJECT_WORKERS"
DEMO_HOME = Path("demo-home")


def build_definitions(
    dataset: DatasetSettings | Path | str,
    overrides: Mapping[str, Any] | None = None,
    *,
    beside_others: bool = False,
) -> dg.Definitions:
    """Definitions of one data set.

    Parameters
    ----------
    dataset
        A description, or the path of a dataset.yaml.
    overrides
        Resources by key (`dataset`, `storage`, `memory`, `compute`) that take the place of the usual ones.
    beside_others
        For a code location that has other data sets too (`dg.Definitions.merge`): names of jobs, sensors,
        schedules and resources begin with the data set's.

    Raises
    ------
    ConfigurationError
        dataset.yaml is absent or wrong.
    """
    settings = dataset if isinstance(dataset, DatasetSettings) else load_dataset(dataset)
    settings = settings.beside_others() if beside_others else settings
    job = build_arrival_job(settings)
    resources = {**build_resources(settings), **(overrides or {})}
    with warnings.catch_warnings():
        # Partitioned checks and conditions in the code server are not final in Dagster; its range is pinned.
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category)
        assets, checks = build_assets(settings), build_checks(settings)
        probe_jobs = [build_probe_job(settings)] if settings.patches is not None else []
        fetch_jobs = [build_fetch_job(settings)] if settings.sources else []
        return dg.Definitions(
            assets=with_conditions(settings, assets),
            asset_checks=checks,
            jobs=[
                job,
                build_standing_job(settings),
                build_upkeep_job(settings),
                build_forget_job(settings, assets, checks),
                build_doctor_job(settings),
                *probe_jobs,
                *fetch_jobs,
            ],
            sensors=[
                *build_sensors(settings, job, assets),
                *(build_probe_sensor(settings, one) for one in probe_jobs),
                *(build_sources_sensor(settings, one) for one in fetch_jobs),
            ],
            schedules=[
                *build_schedules(settings),
                build_history_schedule(settings),
                build_doctor_schedule(settings),
            ],
            resources={own_name(settings, key): value for key, value in resources.items()},
            executor=dg.in_process_executor,
        )


def build_resources(settings: DatasetSettings) -> dict[str, Any]:
    """The resources of a data set; S3 options come from the usual AWS variables.

    Raises
    ------
    ConfigurationError
        A variable of the environment is no number, or too small.
    """
    memory = MemoryBudgetResource(total_mb=_number(MEMORY_VARIABLE, default=2048, least=64, what="MB"))
    return {
        "dataset": DatasetResource.of(settings),
        "memory": memory,
        "compute": ComputeResource(
            workers=_number(WORKERS_VARIABLE, default=0, least=0, what="processes; 0: one for each core")
        ),
        "storage": StorageResource(
            memory=memory,
            region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
            endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
        ),
    }


def _number(name: str, *, default: int, least: int, what: str) -> int:
    # empty is absent: so do files of variables (docker's --env-file) say that there is none
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise ConfigurationError(
            f"{name} is {text!r}: it must be a whole number of at least {least} ({what}); "
            f"without it, {default} is taken"
        )
    return int(text)


def find_dataset_file() -> Path | None:
    """The dataset.yaml to serve: the one that the environment names, `./dataset.yaml`, or the demo's."""
    named = os.environ.get(DATASET_VARIABLE)
    if named:
        return Path(named)
    candidates = (Path("dataset.yaml"), DEMO_HOME / "dataset.yaml")
    return next((path for path in candidates if path.is_file()), None)


def _hint() -> dg.Definitions:
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                "no_dataset_yet",
                group_name="landing",
                description="There is no dataset.yaml yet. Run `make demo` for an example, or write one and "
                f"set {DATASET_VARIABLE} to its path; then reload this code location.",
            )
        ]
    )


def load_definitions() -> dg.Definitions:
    """Definitions of the data set that `find_dataset_file` finds, or a hint where there is none."""
    path = find_dataset_file()
    return build_definitions(path) if path is not None else _hint()


defs = load_definitions()
