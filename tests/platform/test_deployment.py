"""The server deployment: docker-compose.yml by its specification, and its services at work without Docker."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml
from botocore.session import get_session

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.phantom.cohort import make_ct_series, make_subject
from radiobject_assets.store import RadiObject, is_store
from tests.platform.deployed import (
    BIN,
    COMPOSE,
    ROOT,
    Deployment,
    MissingVariableError,
    Service,
    compose,
    free_port,
    postgres,
    wait_until,
)
from tests.store.conftest import S3Server, s3_server

__all__ = ["s3_server"]
EXAMPLE = ROOT / "deploy" / "example.env"
NEEDED = {"POSTGRES_PASSWORD": "secret", "DATA_DIR": "/srv/data"}
SHAPE = (48, 48, 24)


def test_the_compose_file_meets_the_specification() -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_docker_compose_reads_the_file_as_these_tests_do(tmp_path: Path) -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed (`apt-get install docker-compose`)")
    shutil.copy(COMPOSE, tmp_path)
    said = "".join(f"{name}={value}\n" for name, value in NEEDED.items())
    (tmp_path / ".env").write_text(f"{said}SITE_SECRET=of another name\n", encoding="utf-8")
    command = ["docker-compose", *(f"--profile={one}" for one in ("s3", "receive", "login")), "config"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown, read = yaml.safe_load(done.stdout)["services"], compose(NEEDED)["services"]
    assert shown.keys() == read.keys()
    assert shown["code"]["environment"]["SITE_SECRET"] == "of another name"
    assert "SITE_SECRET" not in shown["webserver"]["environment"]
    for name in read:
        assert shown[name].get("mem_limit") == read[name].get("mem_limit")
        assert shown[name].get("command", "") == read[name].get("command", "") or name == "s3"


@pytest.mark.parametrize("name", NEEDED)
def test_nothing_starts_without_its_secrets(name: str) -> None:
    with pytest.raises(MissingVariableError, match=name):
        compose({**NEEDED, name: ""})


def test_the_example_has_no_secret_that_works() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    given = dict(re.findall(r"^#?(\w+)=(.*)$", text, re.MULTILINE))
    for name, value in given.items():
        if re.search("PASSWORD|KEY|SECRET|TOKEN|HASH", name):
            assert value in ("", "''"), name
    # what is left as it is must not reach a program as an empty text
    assert re.findall(r"^(\w+)=", text, re.MULTILINE) == list(NEEDED)


def test_every_variable_that_the_code_reads_is_handed_on_and_explained() -> None:
    read = set()
    for path in (ROOT / "radiobject_assets").rglob("*.py"):
        read |= set(re.findall(r"\b(?:RADIOBJECT|AWS)_[A-Z0-9_]+\b", path.read_text(encoding="utf-8")))
    code = compose(NEEDED)["services"]["code"]
    explained = re.findall(r"^#?(\w+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert code["env_file"] == [".env"]
    # other names of the same
    left = {"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"}
    assert read - set(explained) - set(code["environment"]) <= left
    assert "RADIOBJECT_PSEUDONYM_KEY" in read & set(explained)


def test_every_service_is_watched_bounded_and_reached_from_this_machine_alone() -> None:
    services = compose(NEEDED)["services"]
    assert set(services) == {"postgres", "code", "webserver", "daemon", "receive", "s3", "login"}
    for name, said in services.items():
        assert said["healthcheck"]["test"], name
        assert said["mem_limit"], name
        assert said["logging"]["options"]["max-size"], name
        assert said["restart"] == "unless-stopped"
        assert "no-new-privileges:true" in said["security_opt"]
        assert all(port.startswith("127.0.0.1:") for port in said.get("ports", ()))
    assert [volume for volume in services["code"]["volumes"] if "landing" in volume] == [
        "/srv/data/landing:/data/landing:ro",
        "landing:/landing:ro",
    ]
    # a folder of one's own hides nothing of what lies in the usual one
    elsewhere = compose({**NEEDED, "LANDING_DIR": "/srv/pacs"})["services"]["code"]["volumes"]
    assert "/srv/data/landing:/data/landing:ro" in elsewhere
    assert "/srv/pacs:/landing:ro" in elsewhere
    # the receiver alone writes what is delivered, and nothing else
    receiver = compose({**NEEDED, "LANDING_DIR": "/srv/pacs"})["services"]["receive"]
    written = [volume for volume in receiver["volumes"] if not volume.endswith(":ro")]
    assert written == ["/srv/data/landing:/data/landing", "/srv/pacs:/landing"]
    assert "env_file" not in receiver
    assert re.search(r"^USER dagster$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)


def test_the_limit_of_memory_holds_the_budget_of_every_run() -> None:
    settings = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text(encoding="utf-8"))
    runs = settings["concurrency"]["runs"]["max_concurrent_runs"]
    limit = compose(NEEDED)["services"]["code"]["mem_limit"]
    workers_of_eight_cores = 8
    needed_mb = runs * (2048 + 300 + 120 * workers_of_eight_cores) + 1000
    assert limit.endswith("g")
    assert int(limit[:-1]) * 1024 >= needed_mb


def test_the_receiver_of_the_deployment_delivers_what_is_sent_to_it(tmp_path: Path) -> None:
    pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (`archives`)")
    said, port = compose(NEEDED)["services"]["receive"], str(free_port())
    (tmp_path / "dataset.yaml").write_text(
        "landing: landing\nreceiver: {ae_title: ARCHIVE_IN, quiet_period_s: 0}\n", encoding="utf-8"
    )
    make_ct_series(tmp_path / "made", shape=(16, 16, 3))
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "made").iterdir())]

    def here(words: list[str]) -> list[str]:
        at = {"/data/dataset.yaml": str(tmp_path / "dataset.yaml"), "11112": port, "0.0.0.0": "127.0.0.1"}
        return [str(BIN / words[0]), *(at.get(word, word.replace("11112", port)) for word in words[1:])]

    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    service = Service("receive", here(shlex.split(said["command"])), environment, tmp_path)
    service.start()
    try:
        healthy = here(said["healthcheck"]["test"][1:])
        wait_until("it is healthy", lambda: subprocess.run(healthy, check=False).returncode == 0)
        sender = pynetdicom.AE("SCANNER")
        sender.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
        association = sender.associate("127.0.0.1", int(port), ae_title="ARCHIVE_IN")
        assert association.is_established, service.says()
        assert {association.send_c_store(image).Status for image in images} == {0}
        association.release()
        wait_until("it is delivered", lambda: list((tmp_path / "landing").glob("received-*/_COMPLETE")))
        assert len(list((tmp_path / "landing").glob("received-*/*/*.dcm"))) == len(images)
    finally:
        service.kill()


@pytest.fixture
def deployment(s3_server: S3Server, tmp_path: Path) -> Iterator[Deployment]:
    """The services at work over an empty landing zone and store on S3."""
    pytest.importorskip("dagster_postgres", reason="dagster-postgres is not installed (the extra `postgres`)")
    pytest.importorskip("dagster_webserver", reason="dagster-webserver is not installed (the extra `ui`)")
    with postgres() as database:
        made = Deployment(tmp_path, database, s3_server)
        place = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}"
        text = DATASET_YAML.replace("store: store ", f"store: {place}/store ")
        text = text.replace("landing: landing ", f"landing: {place}/landing ")
        (made.data / "dataset.yaml").write_text(text, encoding="utf-8")
        try:
            made.start()
            yield made
        finally:
            made.stop()


def deliver(deployment: Deployment, server: S3Server, number: int, folder: Path) -> Any:
    """A study, put into the landing zone as a hospital does; its truth."""
    landing = load_dataset(deployment.data / "dataset.yaml").landing.removeprefix("s3://")
    bucket, _, prefix = landing.partition("/")
    client = get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    truth = make_subject(folder, number, shape=SHAPE)
    # the marker, which says that all is there, comes last
    for path in sorted(folder.rglob("*"), key=lambda path: path.name == "_COMPLETE"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    return truth


def ended(deployment: Deployment, partition: str) -> str | None:
    """How the newest run of an arrival ended; None while it has not."""
    for run in deployment.runs():
        if run["partition"] == partition:
            return run["status"] if run["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None
    return None


def taken_in(deployment: Deployment, server: S3Server, truth: Any) -> None:
    """Wait for the arrival's run; its CT is in the store, to the voxel."""
    partition = f"late-{truth.number:03d}"
    status = wait_until(
        f"{partition} is taken in; the daemon says: {deployment.services['daemon'].says()}",
        lambda: ended(deployment, partition),
    )
    assert status == "SUCCESS"
    uri, ctx = load_dataset(deployment.data / "dataset.yaml").store_uri, server.ctx()
    assert is_store(uri, ctx)
    ct = RadiObject(uri, ctx=ctx).collection("ct")
    rows = ct.to_obs().reset_index().set_index("series_uid")
    volume = ct.loc[rows.loc[truth.ct_series_uid, "obs_id"]]
    assert truth.ct.largest_difference(volume.to_numpy(), volume.affine) == 0


@pytest.mark.s3
@pytest.mark.timeout(1200)
def test_a_study_that_is_put_into_the_landing_zone_is_taken_in_by_the_daemon(
    deployment: Deployment, s3_server: S3Server, tmp_path: Path
) -> None:
    first = deliver(deployment, s3_server, 1, tmp_path / "first")
    taken_in(deployment, s3_server, first)
    deployment.wait_for("daemon")

    # "Reload" reads dataset.yaml anew
    described = deployment.data / "dataset.yaml"
    changed = described.read_text(encoding="utf-8").replace("CT series in Hounsfield units", "Other words")
    described.write_text(changed, encoding="utf-8")
    assert deployment.describe("demo", "ct").startswith("CT series in Hounsfield units")
    deployment.reload()
    wait_until("the new description is shown", lambda: "Other words" in deployment.describe("demo", "ct"))

    # old steps are forgotten in this database too, and what was made is not
    forget = (
        "import datetime, dagster; from radiobject_assets.platform.history_retention import forget_steps; "
        "print(forget_steps(dagster.DagsterInstance.get(), datetime.datetime.now(datetime.UTC)))"
    )
    environment = deployment.services["code"].environment
    done = subprocess.run(
        [BIN / "python", "-c", forget], env=environment, capture_output=True, text=True, check=False
    )
    assert int(done.stdout) > 25, done.stderr
    assert ended(deployment, "late-001") == "SUCCESS"

    # no secret lies in what the services wrote
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "dataset.yaml":
            assert s3_server.secret_key.encode() not in path.read_bytes()


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_services_go_on_after_each_of_them_was_killed(
    deployment: Deployment, s3_server: S3Server, tmp_path: Path
) -> None:
    code, daemon = deployment.services["code"], deployment.services["daemon"]
    taken_in(deployment, s3_server, deliver(deployment, s3_server, 1, tmp_path / "first"))

    # the daemon between two ticks: what comes meanwhile is taken in once, by its successor
    daemon.kill()
    second = deliver(deployment, s3_server, 2, tmp_path / "second")
    daemon.start()
    taken_in(deployment, s3_server, second)
    assert [run["partition"] for run in deployment.runs()].count("late-002") == 1

    # the code location in the middle of a run, as a restart of its container ends it
    third = deliver(deployment, s3_server, 3, tmp_path / "third")
    run_id = wait_until(
        "the run of late-003 is at work",
        lambda: next(
            (
                run["run_id"]
                for run in deployment.runs()
                if run["partition"] == "late-003" and run["status"] == "STARTED"
            ),
            None,
        ),
    )
    code.kill()
    code.start()
    deployment.wait_for("code")
    # the queue goes on, and nothing half-done is in the store
    taken_in(deployment, s3_server, deliver(deployment, s3_server, 4, tmp_path / "fourth"))
    what_became_of_an_interrupted_run(deployment, s3_server, run_id, third)

    # the database: all wait for it and go on
    deployment.wait_for("webserver")
    deployment.wait_for("daemon")


def what_became_of_an_interrupted_run(
    deployment: Deployment, server: S3Server, run_id: str, truth: Any
) -> None:
    """Its run is ended, its arrival is asked for again and taken in, once."""
    taken_in(deployment, server, truth)
    status = next(run["status"] for run in deployment.runs() if run["run_id"] == run_id)
    assert status in ("FAILURE", "CANCELED", "SUCCESS")
    collection = RadiObject(load_dataset(deployment.data / "dataset.yaml").store_uri, ctx=server.ctx())
    rows = collection.collection("ct").to_obs()
    assert set(rows["series_uid"].value_counts()) == {1}
