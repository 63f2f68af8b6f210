"""A small home that was really run, and checks evaluated the way in which Dagster's UI launches them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from radiobject_assets.definitions import build_definitions
from radiobject_assets.platform.headless import Pass, open_instance, run_pass
from radiobject_assets.store import RadiObject

ROOT = Path(__file__).resolve().parents[2]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DATASET = """\
landing: landing
store: store
collections:
  ct: {match: {modality: CT}}
  seg: {match: {modality: SEG}, kind: labels, labels_of: ct}
arrivals: {quiet_period_s: 0, trusted_names: "[a-z]+"}
split: {fractions: {train: 0.5, test: 0.5}}
patches: {image: ct, labels: seg, size_voxels: [16, 16, 8], per_volume: 4, foreground_fraction: 0.5}
"""


@dataclass(frozen=True)
class Home:
    """A data set on disk with its Dagster instance."""

    folder: Path

    @property
    def store_uri(self) -> str:
        return str(self.folder / "store")

    def definitions(self) -> dg.Definitions:
        return build_definitions(self.folder / "dataset.yaml")

    def run_pass(self) -> Pass:
        with open_instance(self.folder / "dagster") as instance:
            return run_pass(self.definitions(), instance)

    def obs(self, name: str) -> list[dict[str, object]]:
        return RadiObject(self.store_uri).collection(name).to_obs().reset_index().to_dict("records")

    def array(self, name: str, number: int = 0) -> Path:
        return (
            self.folder / "store" / "collections" / name / "volumes" / str(self.obs(name)[number]["volume"])
        )

    def check(
        self, asset: str, *names: str, partition: str | None = None, tags: dict[str, str] | None = None
    ) -> dict[str, dg.AssetCheckEvaluation]:
        """Evaluate checks of an asset, or all, without the asset: what "Execute" in the UI launches."""
        definitions = self.definitions()
        key = dg.AssetKey(asset)
        chosen = {
            one
            for one in definitions.resolve_asset_graph().asset_check_keys
            if one.asset_key == key and (not names or one.name in names)
        }
        return self._evaluate(definitions, chosen, partition, tags)

    def told_by_a_new_process(self, asset: str, name: str) -> tuple[bool, str]:
        """Whether a check passed, and its text: from a process that has read nothing of the store yet."""
        code = (
            "import sys, json; from pathlib import Path; from tests.platform.small_home import Home\n"
            "one = Home(Path(sys.argv[1])).check(sys.argv[2], sys.argv[3])[sys.argv[3]]\n"
            "print(json.dumps([one.passed, one.description]))"
        )
        command = [sys.executable, "-c", code, str(self.folder), asset, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        passed, text = json.loads(done.stdout.splitlines()[-1])
        return bool(passed), str(text)

    def _evaluate(
        self,
        definitions: dg.Definitions,
        chosen: Collection[dg.AssetCheckKey],
        partition: str | None,
        tags: dict[str, str] | None,
    ) -> dict[str, dg.AssetCheckEvaluation]:
        job = definitions.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=set(), asset_check_selection=set(chosen)
        )
        with open_instance(self.folder / "dagster") as instance:
            result = job.execute_in_process(
                instance=instance, partition_key=partition, tags=tags, run_config=QUIET, raise_on_error=False
            )
        return {one.check_name: one for one in result.get_asset_check_evaluations()}

    def standing(self) -> list[dg.AssetCheckEvaluation]:
        """Every standing check, as the schedule runs them."""
        with open_instance(self.folder / "dagster") as instance:
            result = (
                self.definitions()
                .resolve_job_def("standing_checks")
                .execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)
            )
        assert result.success
        return list(result.get_asset_check_evaluations())

    def materialize(self, *assets: str, partition: str | None = None) -> bool:
        job = self.definitions().resolve_implicit_global_asset_job_def()
        with open_instance(self.folder / "dagster") as instance:
            return job.execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(name) for name in assets],
                partition_key=partition,
                run_config=QUIET,
                raise_on_error=False,
            ).success


def restore(pristine: Path, place: Path) -> Home:
    """The pristine home at the place where it was made: Dagster's records hold its absolute paths."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(pristine, place)
    return Home(place)
