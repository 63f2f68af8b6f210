"""Forgetting a person whose history is in a real Postgres: a dump of it has nothing of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import dagster as dg
import pytest
from house import Home, make_home, traces_of

from radiobject_assets.definitions import build_definitions
from radiobject_assets.forgetting.forget import forget_person
from radiobject_assets.store import RadiObject, forgetting_key, update_obs
from tests.platform.deployed import ROOT, postgres

pytestmark = pytest.mark.timeout(1200)


def dump(database: dict[str, str]) -> bytes:
    """All tables as pg_dump writes them, and what is compressed in them."""
    program = shutil.which("pg_dump")
    assert program is not None
    known = {**os.environ, "PGPASSWORD": database["POSTGRES_PASSWORD"]}
    command = [program, "-h", "127.0.0.1", "-p", database["POSTGRES_PORT"], "-U", "dagster", "dagster"]
    text = subprocess.run(command, env=known, capture_output=True, check=True).stdout
    unpacked = []
    for packed in re.findall(rb"\\\\x([0-9a-f]{16,})", text):
        with contextlib.suppress(zlib.error):
            unpacked.append(zlib.decompress(bytes.fromhex(packed.decode())))
    assert unpacked  # snapshots of jobs: else this looks at less than it says
    return b"\n".join([text, *unpacked])


def events(instance: dg.DagsterInstance) -> dict[str, int]:
    return {run.run_id: len(instance.all_logs(run.run_id)) for run in instance.get_runs()}


@pytest.mark.slow
def test_a_dump_of_the_database_has_nothing_of_the_person_and_everything_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_postgres", reason="dagster-postgres is not installed (the extra `postgres`)")
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed (`apt-get install postgresql-client`)")
    with postgres() as database:
        names = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_USER": "dagster", "POSTGRES_DB": "dagster"}
        for name, value in {**names, **database}.items():
            monkeypatch.setenv(name, value)
        settings = tmp_path / "home" / "dagster" / "dagster.yaml"
        settings.parent.mkdir(parents=True)
        shutil.copy(ROOT / "deploy" / "dagster.yaml", settings)
        home = make_home(tmp_path / "home", subjects=4)
        arrivals = _arrivals(home)
        # somebody who did not come with everything, so that there is a history which is none of theirs
        subject = next(
            one for one, came in sorted(arrivals.items()) if came != set().union(*arrivals.values())
        )
        _find_something_of(home, subject)
        texts, _ = traces_of(home, subject)
        tokens = {str(row["volume"]) for row in _rows(home) if row["obs_subject_id"] == subject}
        needles = [text.encode() for text in texts | tokens | {token[:10] for token in tokens}]
        before = dump(database)
        assert {text for text in needles if text in before}
        with home.house() as house:
            assert house.instance is not None
            runs = events(house.instance)
            theirs = {
                run.run_id
                for run in house.instance.get_runs()
                if run.tags.get("dagster/partition") in arrivals[subject]
            }
            done = forget_person(house, forgetting_key(home.store).mark(subject))
            assert done.runs >= len(theirs) > 0
            left = events(house.instance)
        after = dump(database)
        assert [text for text in needles if text in after] == []
        others = {subject_id for subject_id in arrivals if subject_id != subject}
        assert set(home.subjects()) == others
        # of whom nothing was said in the runs that are gone
        assert {run_id: left.get(run_id) for run_id in runs.keys() & left.keys()} == {
            run_id: runs[run_id] for run_id in runs.keys() & left.keys()
        }
        gone = runs.keys() - left.keys()
        assert theirs <= gone
        # the one whose check had a finding about them, and the one whose profile named a volume of theirs
        assert len(gone - theirs) == 2
        assert left.keys() - theirs
        assert not home.run().failed
        assert [text for text in needles if text in dump(database)] == []


def _rows(home: Home) -> list[dict[str, object]]:
    store = RadiObject(home.store)
    return [
        row
        for name in store.collection_names
        for row in store.collection(name).to_obs().reset_index().to_dict("records")
    ]


def _arrivals(home: Home) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in _rows(home):
        found.setdefault(str(row["obs_subject_id"]), set()).add(str(row["arrival"]))
    return found


def _find_something_of(home: Home, subject: str) -> None:
    """A damaged row of theirs, and the standing checks over it: a finding in a run of no arrival."""
    obs = RadiObject(home.store).collection("ct").to_obs().reset_index()
    row = obs[obs["obs_subject_id"] == subject].iloc[0]
    update_obs(f"{home.store}/collections/ct", {(subject, row["obs_id"]): {"slope": 2.0}})
    job = build_definitions(home.settings).resolve_job_def("standing_checks")
    with dg.DagsterInstance.from_config(str(home.path / "dagster")) as instance:
        assert job.execute_in_process(instance=instance).success
