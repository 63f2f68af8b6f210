"""The platform as it is operated: a daemon, a run queue and a code server, ended at random, lose nothing.

The real ones, as processes on a real instance; everything that is started here is ended here.
"""

from __future__ import annotations

import logging
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.landing.local_zone import arrival_key
from radiobject_assets.phantom.cohort import make_ct_series
from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
from radiobject_assets.platform.headless import open_instance
from radiobject_assets.resources import HEART_TAG, Heartbeat, WorkingTables
from radiobject_assets.store import RadiObject, open_storage

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).resolve().parents[2]
HANGS_S = 900
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

DATASET = """\
collections:
  ct: {match: {modality: CT}}
arrivals:
  quiet_period_s: 0
  trusted_names: "[a-z]+-[0-9]+"
  look_every_s: 5
  retry_after_s: [2, 2, 2]
  silence_s: 60
"""
SHARED = DATASET.replace('  trusted_names: "[a-z]+-[0-9]+"\n', "  share_run: 4\n")


class Served:
    """A data set with a code server and a daemon at work on it."""

    def __init__(self, home: Path, storage: str = "", settings: str = DATASET) -> None:
        self.home = home
        self.landing = home / "landing"
        self.landing.mkdir()
        (home / "dataset.yaml").write_text(settings, encoding="utf-8")
        with open_instance(home / "dagster"):
            pass  # writes the settings that `make ui` and the demo work with
        settings = home / "dagster" / "dagster.yaml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(text.replace("max_concurrent_runs: 1", "max_concurrent_runs: 2") + storage)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])
        (home / "workspace.yaml").write_text(
            f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {self.port}, location_name: served}}\n"
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        commands = {
            "code server": [
                *("dagster", "api", "grpc", "-m", "radiobject_assets.definitions"),
                *("-h", "127.0.0.1", "-p", self.port),
            ],
            "daemon": ["dagster-daemon", "run", "-w", str(self.home / "workspace.yaml")],
        }
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(self.home / "dagster"),
            "RADIOBJECT_DATASET": str(self.home / "dataset.yaml"),
            "PYTHONPATH": str(PROJECT),
        }
        for name in names:
            program, *arguments = commands[name]
            with (self.home / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [str(BIN / program), *arguments],
                    cwd=self.home,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def kill(self, name: str, *, with_its_runs: bool) -> None:
        process = self.processes[name]
        # the runs are processes of the code server's group
        (os.killpg if with_its_runs else os.kill)(process.pid, signal.SIGKILL)
        process.wait()

    def kill_a_run(self, instance: dg.DagsterInstance, chance: random.Random, sent: int) -> None:
        pids = [heart.pid for heart in hearts(instance)]
        if pids:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), sent)

    def stop(self, instance: dg.DagsterInstance | None = None) -> None:
        runs = [heart.pid for heart in hearts(instance)] if instance is not None else []
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pid in runs:  # those whose code server was killed before them
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def behind(self) -> list[str]:
        """Arrivals that are not achieved."""
        rows = ArrivalTable(WorkingTables(open_storage(str(self.home / "work")))).rows
        trusted = load_dataset(self.home / "dataset.yaml").arrivals.trusted_names
        keys = sorted(arrival_key(path.name, trusted) for path in self.landing.iterdir())
        return [key for key in keys if key not in rows or not rows[key].achieved]

    def told(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self.home.glob("*.log"))


def hearts(instance: dg.DagsterInstance) -> list[Heartbeat]:
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    found = [Heartbeat.parse(run.tags.get(HEART_TAG, "")) for run in runs]
    return [heart for heart in found if heart is not None and not heart.has_died]


@contextmanager
def served(
    home: Path, storage: str = "", settings: str = DATASET
) -> Iterator[tuple[Served, dg.DagsterInstance]]:
    platform = Served(home, storage, settings)
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        try:
            platform.start("code server", "daemon")
            yield platform, instance
        finally:
            platform.stop(instance)


def deliver(platform: Served, number: int) -> None:
    made = platform.home / "made" / f"drop-{number:03}"
    make_ct_series(made, shape=(16, 16, 4), seed=number)
    made.rename(platform.landing / made.name)


def wait_until(holds: Callable[[], bool], platform: Served, what: str) -> None:
    deadline = time.monotonic() + HANGS_S
    while not holds():
        assert time.monotonic() < deadline, f"{what}\n{platform.told()}"
        time.sleep(1)


def is_quiet(instance: dg.DagsterInstance) -> bool:
    return not instance.get_runs(dg.RunsFilter(statuses=UNFINISHED), limit=1)


def disturb(
    platform: Served, instance: dg.DagsterInstance, chance: random.Random, times: int, every_s: float
) -> None:
    for _ in range(times):
        time.sleep(chance.uniform(0.3, 2) * every_s)
        victim = chance.choice(["run", "run", "code server", "daemon", "everything"])
        if victim == "run":
            platform.kill_a_run(instance, chance, signal.SIGKILL)
        elif victim == "everything":
            for name in platform.processes:
                platform.kill(name, with_its_runs=True)
            platform.start("code server", "daemon")
        else:
            platform.kill(victim, with_its_runs=chance.random() < 0.5)
            platform.start(victim)


def assert_all_is_there_once(platform: Served, instance: dg.DagsterInstance, arrivals: int) -> None:
    wait_until(lambda: not platform.behind(), platform, f"left behind: {platform.behind()}")
    made = dg.AssetKey("dataset")  # what follows is not lost either
    wait_until(lambda: instance.get_latest_materialization_event(made) is not None, platform, "no snapshot")
    wait_until(lambda: is_quiet(instance), platform, "a run counts as running for ever")
    dataset = load_dataset(platform.home / "dataset.yaml")
    collection = RadiObject(dataset.store_uri).collection("ct")
    rows = collection.to_obs().reset_index()
    names = [f"drop-{number:03}" for number in range(arrivals)]
    trusted = dataset.arrivals.trusted_names
    assert sorted(rows["arrival"]) == sorted(arrival_key(name, trusted) for name in names)
    assert rows["series_uid"].nunique() == arrivals
    assert collection.verify() == []


@pytest.mark.slow
def test_whatever_is_killed_every_arrival_is_taken_in_once(tmp_path: Path) -> None:
    with served(tmp_path) as (platform, instance):
        for number in range(4):
            deliver(platform, number)
        wait_until(lambda: bool(hearts(instance)), platform, "no run began")
        disturb(platform, instance, random.Random(11), times=4, every_s=6)
        deliver(platform, 4)
        assert_all_is_there_once(platform, instance, 5)


@pytest.mark.slow
def test_arrivals_that_share_runs_are_each_taken_in_once_whatever_is_killed(tmp_path: Path) -> None:
    with served(tmp_path, settings=SHARED) as (platform, instance):
        for number in range(6):
            deliver(platform, number)
        wait_until(lambda: bool(hearts(instance)), platform, "no run began")
        disturb(platform, instance, random.Random(5), times=4, every_s=6)
        for number in range(6, 9):
            deliver(platform, number)
        assert_all_is_there_once(platform, instance, 9)
        partitions = instance.get_dynamic_partitions("arrivals")
        assert len(partitions) < 9
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d-\d{3}", name) for name in partitions)


@pytest.mark.slow
def test_a_run_that_comes_back_to_life_after_it_was_ended_does_no_harm(tmp_path: Path) -> None:
    with served(tmp_path) as (platform, instance):
        deliver(platform, 0)
        wait_until(lambda: bool(hearts(instance)), platform, "no run began")
        (heart,) = hearts(instance)
        os.kill(heart.pid, signal.SIGSTOP)
        # it gives no signs: its arrival is taken in by another run
        wait_until(lambda: not platform.behind(), platform, "the stopped run held its arrival")
        os.kill(heart.pid, signal.SIGCONT)
        time.sleep(30)
        assert_all_is_there_once(platform, instance, 1)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_many_arrivals_come_while_everything_is_ended_again_and_again(
    tmp_path: Path, seed: int, kind: str, request: pytest.FixtureRequest
) -> None:
    """As many kills as arrivals, on both databases; RADIOBJECT_ARRIVALS=200 is the long form."""
    arrivals = int(os.environ.get("RADIOBJECT_ARRIVALS", "20"))
    storage = request.getfixturevalue("postgres") if kind == "postgres" else ""
    chance = random.Random(seed)
    with served(tmp_path, storage) as (platform, instance):
        for number in range(arrivals):
            deliver(platform, number)
            disturb(platform, instance, chance, times=1, every_s=5)
        assert_all_is_there_once(platform, instance, arrivals)


@dataclass(frozen=True)
class Took:
    """What it took until all arrivals were taken in, which lay there from the start."""

    start_s: float
    """Until a run was asked for: what a restart costs."""
    work_s: float
    """From then on."""
    kills: int


def take_in_all(
    home: Path,
    storage: str,
    settings: str,
    arrivals: int,
    chance: random.Random,
    calm: Took | None,
) -> Took:
    """Undisturbed; or, where it is known what that takes, under kills."""
    home.mkdir()
    begun = time.monotonic()
    with served(home, storage, settings) as (platform, instance):
        for number in range(arrivals):
            deliver(platform, number)
        wait_until(lambda: bool(instance.get_runs(limit=1)), platform, "no run was asked for")
        started = last = time.monotonic()
        # more often than the machinery takes to start, nothing could be done in between
        every_s = max(2 * calm.start_s, calm.work_s / 8) if calm else math.inf
        hangs_s = HANGS_S + 60 * arrivals if calm is None else 10 * limit_s(calm, 0)
        kills, pause_s = 0, every_s * chance.uniform(0.5, 1.5)
        while platform.behind():
            now = time.monotonic()
            assert now - started < hangs_s, f"{platform.behind()}\n{platform.told()}"
            # one kill for each arrival at most: a machine that got slower meanwhile must come to an end too
            if kills < arrivals and now - last > pause_s:
                disturb(platform, instance, chance, times=1, every_s=0)
                kills, last, pause_s = kills + 1, now, every_s * chance.uniform(0.5, 1.5)
            time.sleep(0.5)
        took = Took(started - begun, time.monotonic() - started, kills)
        assert_all_is_there_once(platform, instance, arrivals)
    return took


def limit_s(calm: Took, kills: int) -> float:
    """Three undisturbed passes of the same arrivals, in the same surroundings; and what was killed must start
    again, which counts where there are so few arrivals that it is most of the time."""
    return 3 * (calm.start_s + calm.work_s) + kills * calm.start_s


@pytest.mark.slow
@pytest.mark.timeout(8 * 3600)
@pytest.mark.parametrize("runs", ["own runs", "shared runs"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_all_arrivals_are_achieved_under_kills_within_three_passes(
    tmp_path: Path, kind: str, runs: str, request: pytest.FixtureRequest
) -> None:
    """RADIOBJECT_ARRIVALS=200 is the long form, for a machine that has nothing else to do."""
    arrivals = int(os.environ.get("RADIOBJECT_ARRIVALS", "12"))
    settings = DATASET if runs == "own runs" else SHARED
    storage = request.getfixturevalue("postgres") if kind == "postgres" else ""
    chance = random.Random(7)
    calm = take_in_all(tmp_path / "calm", storage, settings, arrivals, chance, None)
    if kind == "postgres":  # one database: the second data set has another
        storage = request.getfixturevalue("another_postgres")
    hard = take_in_all(tmp_path / "killed", storage, settings, arrivals, chance, calm)
    said = f"{kind}, {runs}: {arrivals} arrivals undisturbed in {calm.start_s:.0f} + {calm.work_s:.0f} s, "
    said += f"with {hard.kills} kills in {hard.work_s:.0f} s"
    logging.getLogger(__name__).info(said)
    assert hard.kills > 0
    assert hard.work_s <= (3 * calm.work_s if arrivals >= 100 else limit_s(calm, hard.kills)), said


@pytest.fixture
def postgres() -> Iterator[str]:
    with postgres_server() as storage:
        yield storage


@pytest.fixture
def another_postgres() -> Iterator[str]:
    with postgres_server() as storage:
        yield storage


@contextmanager
def postgres_server() -> Iterator[str]:
    """A Postgres server of its own, as `storage` of dagster.yaml; skips where there is none."""
    pytest.importorskip("dagster_postgres")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("Postgres is not installed (on Debian: apt-get install postgresql)")
    owner = "postgres" if os.geteuid() == 0 else None  # it refuses to be root
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        if owner:
            shutil.chown(folder, owner)
        (folder / "password").write_text("secret")
        make = [programs[-1] / "initdb", "-D", folder / "data", "-U", "dagster", "-A", "md5"]
        subprocess.run(
            [*make, f"--pwfile={folder / 'password'}"], user=owner, check=True, capture_output=True
        )
        server = subprocess.Popen(
            [
                *(programs[-1] / "postgres", "-D", folder / "data", "-p", str(port)),
                *("-c", f"unix_socket_directories={folder}", "-c", "listen_addresses=127.0.0.1"),
            ],
            user=owner,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = [programs[-1] / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
            deadline = time.monotonic() + 60
            while subprocess.run(ready, capture_output=True, check=False).returncode:
                assert time.monotonic() < deadline, "Postgres does not start"
                time.sleep(0.5)
            yield (
                "\nstorage:\n  postgres:\n    postgres_db: {hostname: 127.0.0.1, username: dagster, "
                f"password: secret, db_name: postgres, port: {port}, scheme: postgresql+psycopg2}}\n"
            )
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
