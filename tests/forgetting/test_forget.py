"""Forgetting a person: nothing of them is left in any byte, and everybody else's history stays."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import numpy as np
import pydicom
import pytest
from house import SHAPE, Home, digests_without, make_home, places_of, put_back, traces_of
from pydicom.uid import generate_uid

from radiobject_assets.archives.deliveries import HIDDEN
from radiobject_assets.archives.receiving import SUCCESS, Reception, waiting_studies
from radiobject_assets.archives.whole_instances import tokens_of
from radiobject_assets.definitions import build_definitions
from radiobject_assets.diagnostics.findings import shown_token
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.forgetting.forget import forget_person, would_go
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.assets.history import failed_arrivals
from radiobject_assets.store import RadiObject, create_snapshot, forgetting_key, list_snapshots, update_obs

SECRET = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Home]:
    return _pristine(tmp_path_factory.mktemp("plain"), pseudonyms=False)


@pytest.fixture(scope="module")
def pseudonymous(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Home]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RADIOBJECT_PSEUDONYM_KEY", SECRET)
        return _pristine(tmp_path_factory.mktemp("pseudonyms"), pseudonyms=True)


def _pristine(folder: Path, *, pseudonyms: bool) -> tuple[Path, Home]:
    home = make_home(folder / "home", pseudonyms=pseudonyms)
    create_snapshot(home.store, "named")
    shutil.copytree(home.path, folder / "pristine")
    return folder / "pristine", home


@pytest.fixture
def home(plain: tuple[Path, Home]) -> Home:
    put_back(*plain)
    return plain[1]


def mark_of(home: Home, subject: str) -> str:
    return forgetting_key(home.store).mark(subject)


def command(home: Home, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(_words(home, *arguments), input=given, capture_output=True, text=True, check=False)


def _words(home: Home, *arguments: str) -> list[str]:
    dataset = ("--dataset", str(home.path / "dataset.yaml"))
    return [sys.executable, "-m", "radiobject_assets.cli", "forget", *arguments, *dataset]


@pytest.mark.parametrize("kind", ["pseudonymous", pytest.param("plain", marks=pytest.mark.slow)])
def test_nothing_of_a_person_is_left_and_everybody_else_stays(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", SECRET)
    pristine, home = request.getfixturevalue(kind)
    put_back(pristine, home)
    subject, *others = home.subjects()
    texts, pieces = traces_of(home, subject)
    assert len(pieces) > 20
    assert {Path(name).parts[0] for name in places_of(home, texts, pieces)} == {"store", "work", "dagster"}
    before = digests_without(home, subject)
    with home.house() as house:
        told = would_go(house, mark_of(home, subject))
        assert told.volumes > 0
        assert told.runs > 0
        assert home.subjects() == [subject, *others]
        done = forget_person(house, mark_of(home, subject))
        assert done.volumes == told.volumes
    assert places_of(home, texts, pieces) == set()
    assert home.subjects() == others
    assert digests_without(home, subject) == before
    assert {s.name for s in list_snapshots(home.store)} >= {"named", "snapshot-0001"}
    # the files are still in the landing zone: another pass takes in nothing of theirs
    assert not home.run().failed
    for path in (home.path / "landing").iterdir():  # nor does one that looks at all of them anew
        (path / "note.txt").write_text("new")
    assert not home.run().failed
    assert places_of(home, texts, pieces) == set()
    assert home.subjects() == others


@pytest.mark.slow
def test_the_landing_zone_is_cleared_of_one_person_where_that_is_asked_for(home: Home) -> None:
    subject, *others = home.subjects()
    texts, pieces = traces_of(home, subject)
    kept = {p for p in (home.path / "landing").rglob("*") if p.is_file() and subject not in str(p)}
    with home.house() as house:
        done = forget_person(house, mark_of(home, subject), landing=True)
    assert done.landing_files > 0
    assert done.by_hand == 0
    assert places_of(home, {subject}, set(), landing=True) == set()
    assert places_of(home, texts, pieces, landing=True) == set()
    left = {p for p in (home.path / "landing").rglob("*") if p.is_file()}
    assert len(kept - left) < done.landing_files
    assert not home.run().failed
    assert home.subjects() == others
    volumes = RadiObject(home.store).collection("ct").to_obs()
    assert set(volumes["obs_subject_id"]) <= set(others)


@pytest.mark.parametrize("landing", [False, True])
def test_lines_of_a_division_by_hand_are_told_and_removed_where_that_is_asked_for(
    home: Home, landing: bool
) -> None:
    subject, other, *_ = home.subjects()
    settings = home.path / "dataset.yaml"
    settings.write_text(settings.read_text().replace("split:\n", "split:\n  by_hand: hand.tsv\n"))
    table = home.path / "hand.tsv"
    table.write_text(f"Subject\tsplit\n{subject}\ttrain\n{other}\ttest\n")
    words = (mark_of(home, subject), "--yes", *(["--landing"] if landing else []))
    done = command(home, *words)
    assert done.returncode == 0, done.stderr
    if landing:
        assert "hand.tsv" not in done.stdout
        assert table.read_text() == f"Subject\tsplit\n{other}\ttest\n"
    else:
        assert "1 lines of hand.tsv" in " ".join(done.stdout.split())
        assert subject in table.read_text()
    assert subject not in done.stdout + done.stderr


def _being_sent(home: Home, sent: Path, number: int) -> Reception:
    """A receiver to which a sender, association `number`, is sending the study of a new person."""
    reception = Reception(home.path / "landing", quiet_period_s=0.0)
    make_subject(sent, number, arrival=f"s{number}", shape=SHAPE)
    reception.begin(number)
    for file in sorted((sent / f"s{number}").rglob("*")):
        if file.is_file() and tokens_of(file) is not None:
            uid = str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)
            assert reception.take(number, file, uid) == SUCCESS
    return reception


def _staged(home: Home) -> list[Path]:
    return [path for path in (home.path / "landing" / HIDDEN).rglob("*.dcm") if path.is_file()]


@pytest.mark.slow
def test_who_is_forgotten_while_their_study_is_being_sent_does_not_come_in(
    home: Home, tmp_path: Path
) -> None:
    before = home.subjects()
    reception = _being_sent(home, tmp_path, 21)
    waiting = _staged(home)
    subject = str(pydicom.dcmread(waiting[0], stop_before_pixels=True).PatientID)
    assert subject not in before
    told = command(home, subject)
    assert told.returncode == 0, told.stdout
    assert f"{len(waiting)} of their files wait" in " ".join(told.stdout.split())
    assert not forgetting_key(home.store).marks
    done = command(home, subject, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert forgetting_key(home.store).marks == {mark_of(home, subject)}
    assert _staged(home) == waiting
    reception.end(21, in_order=True)
    assert len(list(reception.deliver_closed())) == 1
    assert not home.run().failed
    assert home.subjects() == before
    assert places_of(home, {subject}, set()) == set()


@pytest.mark.parametrize("landing", [False, True])
def test_who_is_forgotten_while_their_arrival_lies_untouched_does_not_come_in(
    home: Home, landing: bool
) -> None:
    before, zone = home.subjects(), home.path / "landing"
    known = {path for path in zone.rglob("*") if path.is_file()}
    subject = make_subject(zone, 21, shape=SHAPE).participant.participant_id
    with home.house() as house:
        done = forget_person(house, mark_of(home, subject), landing=landing)
    assert (done.arrivals, done.volumes) == (1, 0)
    assert done.landing_files > 0
    assert forgetting_key(home.store).marks == {mark_of(home, subject)}
    if landing:
        assert places_of(home, {subject}, set(), landing=True) == set()
    assert known <= {path for path in zone.rglob("*") if path.is_file()}
    assert not home.run().failed
    assert home.subjects() == before
    assert places_of(home, {subject}, set()) == set()


@pytest.mark.slow
def test_files_that_wait_go_with_the_landing_files_and_those_of_others_stay(
    home: Home, tmp_path: Path
) -> None:
    before, landing = home.subjects(), home.path / "landing"
    _being_sent(home, tmp_path, 21)
    (study,), mine = waiting_studies(landing), _staged(home)
    subject = str(pydicom.dcmread(mine[0], stop_before_pixels=True).PatientID)
    other = _being_sent(home, tmp_path, 22)
    others = set(_staged(home)) - set(mine)
    # what a killed delivery leaves
    shutil.copytree(landing / HIDDEN / "received" / study, landing / HIDDEN / "received" / f"{study}.next")
    with home.house() as house:
        done = forget_person(house, mark_of(home, subject), landing=True)
        assert done.staged_files == 2 * len(mine)
        assert would_go(house, mark_of(home, subject)).is_nobody
    assert set(_staged(home)) == others
    assert len(waiting_studies(landing)) == 1
    assert not [path for path in (landing / HIDDEN).rglob("*") if study in path.name]
    other.end(22, in_order=True)
    assert len(list(other.deliver_closed())) == 1
    assert not home.run().failed
    assert len(home.subjects()) == len(before) + 1
    assert subject not in home.subjects()


def test_a_dry_run_tells_counts_and_marks_and_removes_nothing(home: Home) -> None:
    subject = home.subjects()[0]
    done = command(home, "-", given=f"{subject}\n")
    assert done.returncode == 0, done.stderr
    assert mark_of(home, subject) in done.stdout
    assert "Nothing was removed" in done.stdout
    assert subject not in done.stdout + done.stderr
    assert subject in home.subjects()
    nobody = command(home, "nobody-at-all", "--yes")
    assert nobody.returncode == 1
    assert "nothing of such a person" in nobody.stdout
    assert not forgetting_key(home.store).marks  # a slip of the pen keeps nobody out
    assert "nobody-at-all" not in nobody.stdout + nobody.stderr


def test_the_job_takes_marks_alone(home: Home) -> None:
    subject = home.subjects()[0]
    texts, pieces = traces_of(home, subject)
    job = build_definitions(home.settings).resolve_job_def("forget")
    with dg.DagsterInstance.from_config(str(home.path / "dagster")) as instance:

        def run(person: str) -> dg.ExecuteInProcessResult:
            config = {"ops": {"forget_people": {"config": {"people": [person]}}}}
            return job.execute_in_process(config, instance=instance, raise_on_error=False)

        refused = run(subject)
        assert not refused.success
        assert subject in home.subjects()
        instance.delete_run(refused.run_id)
        assert run(mark_of(home, subject)).success
    assert places_of(home, texts, pieces) == set()


def test_who_comes_again_is_refused_until_allowed(home: Home) -> None:
    subject = home.subjects()[0]
    with home.house() as house:
        n_volumes = forget_person(house, mark_of(home, subject)).volumes

    def ingest() -> dict[str, object]:
        words = ("ingest", str(home.path / "landing"), "--dataset", str(home.path / "dataset.yaml"), "--json")
        done = subprocess.run(
            [sys.executable, "-m", "radiobject_assets.cli", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(done.stdout)

    document = ingest()
    assert not [s for s in document["series"] if s["subject_id"] == subject]
    assert [u for u in document["unreadable"] if u["reason"] == "subject_forgotten"]
    assert subject not in home.subjects()
    assert command(home, subject, "--allow").returncode == 0
    back = [s for s in ingest()["series"] if s["subject_id"] == subject and s["status"] == "written"]
    assert len(back) == n_volumes
    assert subject in home.subjects()


def test_a_doubt_about_an_arrival_outlives_its_history(home: Home) -> None:
    subject = home.subjects()[0]
    ct = dg.AssetKey(["demo", "ct"])
    with home.house() as house:
        assert house.instance is not None
        failed = dg.AssetCheckEvaluation(
            asset_key=ct, check_name="integrity", passed=False, partition="batch-001", blocking=True
        )
        house.instance.report_runless_asset_event(failed)
        assert failed_arrivals(house.instance, [ct]) == ["batch-001"]
        made = house.instance.get_materialized_partitions(ct)
        forget_person(house, mark_of(home, subject))
        assert failed_arrivals(house.instance, [ct]) == ["batch-001"]
        assert house.instance.get_materialized_partitions(ct) == made


def test_findings_about_a_person_are_forgotten_and_no_check_counts_as_never_done(home: Home) -> None:
    subject = home.subjects()[0]
    obs = RadiObject(home.store).collection("ct").to_obs().reset_index()
    mine = obs[obs["obs_subject_id"] == subject].iloc[0]
    update_obs(f"{home.store}/collections/ct", {(subject, mine["obs_id"]): {"slope": 2.0}})
    job = build_definitions(home.settings).resolve_job_def("standing_checks")
    with dg.DagsterInstance.from_config(str(home.path / "dagster")) as instance:
        verdicts = {
            (one.asset_key, one.check_name): one.passed
            for one in job.execute_in_process(instance=instance).get_asset_check_evaluations()
        }
    assert verdicts[dg.AssetKey(["demo", "ct"]), "volumes_verified"] is False
    shown = {str(mine["volume"])[:10]}
    assert {Path(name).parts[0] for name in places_of(home, shown, set())} == {"store", "dagster", "work"}
    with home.house() as house:
        assert house.instance is not None
        forget_person(house, mark_of(home, subject))
        # the store revokes the tokens, so that no killed writer brings an array back; they name nobody
        assert {Path(name).parent.name for name in places_of(home, shown, set())} == {"revoked"}
        kept = {}
        for key in verdicts:
            history = house.instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(*key), limit=1
            )
            kept[key] = bool(history) and history[0].status.value == "SUCCEEDED"
    assert kept == verdicts


def _twin_arrival(home: Home, subject: str, other: str) -> None:
    """An arrival of another person, whose CT is the subject's with a little noise."""
    folder = home.path / "landing" / "late-077"
    uids: dict[str, str] = {}
    noise = np.random.default_rng(3)
    for path in sorted((home.path / "landing").rglob("*")):
        if path.is_dir() or folder in path.parents or tokens_of(path) is None:
            continue
        dataset = pydicom.dcmread(path)
        if (dataset.PatientID, dataset.Modality) != (subject, "CT"):
            continue
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.decompress()
        pixels = dataset.pixel_array
        dataset.PixelData = (pixels + noise.integers(0, 2, pixels.shape).astype(pixels.dtype)).tobytes()
        dataset.PatientID = other
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            if name in dataset:
                dataset[name].value = uids.setdefault(str(dataset[name].value), generate_uid())
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        folder.mkdir(exist_ok=True)
        dataset.save_as(folder / f"{len(list(folder.iterdir()))}.dcm")
    (folder / "_COMPLETE").touch()


@pytest.mark.slow
def test_nothing_of_a_person_who_has_a_near_twin_is_left_in_figures_and_findings(home: Home) -> None:
    subject, *others = home.subjects()
    _twin_arrival(home, subject, "twin-of-somebody")
    assert not home.run().failed
    texts, _ = traces_of(home, subject)
    rows = RadiObject(home.store).collection("ct").to_obs()
    mine = rows[rows["obs_subject_id"] == subject]
    tokens = {*mine["volume"], *(shown_token(token) for token in mine["volume"]), *mine["voxel_digest"]}
    twins = set(rows.loc[rows["obs_subject_id"] == "twin-of-somebody", "volume"])
    pairs = {"-".join(sorted((a[:10], b[:10]))) for a in mine["volume"] for b in twins}
    assert any(
        name.startswith("dagster/") for name in places_of(home, pairs, set())
    )  # the check told of them
    tokens |= pairs
    before = places_of(home, texts | tokens, set())
    assert any(name.startswith("work/profile/ct/") for name in before)
    with home.house() as house:
        forget_person(house, mark_of(home, subject))
    # the store keeps random tokens of arrays that are gone for a while, so that nothing brings one back
    left = {name for name in places_of(home, texts | tokens, set()) if "/log/revoked" not in name}
    assert left == set()
    assert set(home.subjects()) == {*others, "twin-of-somebody"}
    assert not home.run().failed
    left = {name for name in places_of(home, texts | tokens, set()) if "/log/revoked" not in name}
    assert left == set()


def test_nobody_is_forgotten_while_what_they_came_with_is_worked_on(home: Home) -> None:
    subject = home.subjects()[0]
    definitions = build_definitions(home.settings)
    with home.house() as house:
        assert house.instance is not None
        failed = {"ops": {"probe_store": {"config": {"failed_run": "", "split": ""}}}}
        for name, config in {"process_arrival": {}, "doctor": {}, "probe_after_failure": failed}.items():
            job = definitions.resolve_job_def(name)
            tags = {"dagster/partition": "batch-001"} if name == "process_arrival" else {}
            run = house.instance.create_run_for_job(job, run_config=config, tags=tags)
            house.instance.report_engine_event("begins", run)
            house.instance.report_dagster_event(
                dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, name, message="begins"), run.run_id
            )
            with pytest.raises(ConfigurationError, match="1 runs are working"):
                forget_person(house, mark_of(home, subject))
            house.instance.report_run_canceled(run)
        tables = house.dataset.tables(house.storage)
        with (
            tables.storage.lock("doctor/lock", wait_s=0),
            pytest.raises(ConfigurationError, match="a doctor is mending"),
        ):
            forget_person(house, mark_of(home, subject))
    assert subject in home.subjects()


def _forget_under_kills(home: Home, pristine: Path, seed: int) -> None:
    """Forget somebody by the command, killed at random moments until it comes to its end."""
    chance = random.Random(seed)
    put_back(pristine, home)
    subject = chance.choice(home.subjects())
    others = [one for one in home.subjects() if one != subject]
    texts, pieces = traces_of(home, subject)
    before = digests_without(home, subject)
    mark = mark_of(home, subject)
    journal = home.path / "work" / "forgetting" / f"{mark}.json"
    landing = chance.random() < 0.5
    for _ in range(chance.randint(1, 4)):
        # by its mark: the id is known to nobody any more who takes it up
        process = subprocess.Popen(
            _words(home, mark, "--yes", *(["--landing"] if landing else [])),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and not journal.is_file():
            time.sleep(0.01)
        time.sleep(chance.expovariate(1.0))
        process.kill()
        process.wait()
    done = command(home, mark, "--yes", *(["--landing"] if landing else []))
    assert done.returncode in (0, 1), (seed, done.stderr)
    assert places_of(home, texts, pieces, landing=landing) == set(), seed
    assert home.subjects() == others, seed
    assert digests_without(home, subject) == before, seed
    assert json.loads(journal.read_text())["finished"], seed


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_nothing_that_the_next_call_does_not_remove(
    plain: tuple[Path, Home], seed: int
) -> None:
    _forget_under_kills(plain[1], plain[0], seed)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(100, 200))
def test_a_hundred_people_are_forgotten_under_kills(plain: tuple[Path, Home], seed: int) -> None:
    _forget_under_kills(plain[1], plain[0], seed)
