"""Real DICOM as a landing zone: series from several scanners, malformed files, documents."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.definitions import build_definitions
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.platform.overview import read_overview
from radiobject_assets.store import RadiObject
from tests.platform.small_home import QUIET

ARRIVALS = (
    "ct_philips_notilt",
    "ct_philips_scout",
    "ct_siemens_missing_slice",
    "malformed_fuzz",
    "malformed_pydicom",
    "mr_comp_rle",
    "nonimage_mix",
    "sc_rgb_j2k",
)


def test_real_arrivals_run_through_and_every_file_is_accounted_for(shared_data: Path, tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    landing.mkdir()
    present = [name for name in ARRIVALS if (shared_data / "series" / name).is_dir()]
    if not present:
        pytest.skip("none of these series is among the reference images")
    for name in present:
        (landing / name).symlink_to(shared_data / "series" / name, target_is_directory=True)
    settings = {"quiet_period_s": 0, "trusted_names": "[a-z0-9_]+"}
    dataset = DatasetSettings(folder=tmp_path, arrivals=settings)  # type: ignore[arg-type] # pydantic makes it
    definitions = build_definitions(dataset)
    with open_instance(tmp_path / "dagster") as instance:
        done = run_pass(definitions, instance)
        overview = read_overview(dataset, definitions, instance)
        job = definitions.resolve_job_def("standing_checks")
        standing = job.execute_in_process(instance=instance, run_config=QUIET).get_asset_check_evaluations()

    wrong = [one for one in standing if not one.passed and one.severity == dg.AssetCheckSeverity.ERROR]
    # whom the hash gives to which split is nobody's fault in so small a data set
    assert {one.check_name for one in wrong} <= {"splits_are_usable"}
    told = {one.check_name: one for one in standing}
    for name in ("volumes_verified", "store_is_whole", "images_once", "sources_still_there"):
        assert told[name].passed, told[name].description
    assert not told["series_taken_in"].passed
    assert done.failed == ()
    assert overview.checks.failures == ()
    assert overview.files == sum(1 for name in present for path in _files(shared_data / "series" / name))
    in_series = 0
    for name in present:
        rows = pd.read_parquet(tmp_path / "work" / "arrivals" / name / "series.parquet")
        in_series += int(rows["n_instances"].sum())
        held = rows[rows["verdict"] == "quarantined"]
        assert set(held["reason"]) <= {reason.value for reason in Reason}
    assert in_series + sum(overview.unreadable.values()) == overview.files
    store = RadiObject(str(tmp_path / "store"))
    assert sum(len(store.collection(name)) for name in store.collection_names) > 0


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
