"""The services of docker-compose.yml without Docker: the same commands, environments and settings as there.

Postgres and the S3 server are real ones on loopback. `DEPLOYED_BIN` names the folder of the programs to
start, for a virtual environment that was made as the Dockerfile does (`pip install -c constraints.txt
'.[ui,postgres,archives]'`); without it they are those of this Python.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.store.conftest import S3Server, _end_with_parent

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
BIN = Path(os.environ.get("DEPLOYED_BIN", Path(sys.executable).parent))
# Machines are busy: these are ends to waiting, not measures of speed.
PATIENCE_S = 420
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


class MissingVariableError(Exception):
    """A variable that docker-compose.yml insists on (`${NAME:?...}`) is not there."""


def compose(variables: Mapping[str, str]) -> Any:
    """docker-compose.yml with its variables put in, as `docker compose config` shows it."""

    def value(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if kind == "?" and not variables.get(name):
            raise MissingVariableError(f"{name}: {text}")
        return variables.get(name) or (text if kind == "-" else "")

    return yaml.safe_load(_VARIABLE.sub(value, COMPOSE.read_text(encoding="utf-8")))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, holds: Callable[[], Any], *, seconds: float = PATIENCE_S) -> Any:
    """What `holds` returns as soon as it is true; a service that does not answer yet is waited for."""
    deadline, problem = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            if found := holds():
                return found
        except (OSError, urllib.error.URLError, KeyError) as error:
            problem = f" ({type(error).__name__}: {error})"
        time.sleep(0.5)
    pytest.fail(f"not within {seconds:.0f} s: {what}{problem}")


class Service:
    """One service: a process group of its own, ended with the tests."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name, self.command, self.environment = name, command, environment
        self.folder = folder
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env={**self.environment},
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )

    def kill(self) -> None:
        """End it and all that it started, as the end of a container does."""
        if self.process is not None:
            for group in {self.process.pid, *_groups_below(self.process.pid)}:
                try:
                    os.killpg(group, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.wait()

    def says(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]


def _groups_below(pid: int) -> set[int]:
    import psutil

    try:
        return {os.getpgid(child.pid) for child in psutil.Process(pid).children(recursive=True)}
    except (psutil.NoSuchProcess, ProcessLookupError):
        return set()


@contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """A Postgres of the system's packages on a free port; the variables that the deployment knows it by."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("Postgres is not installed (`apt-get install postgresql`; /usr/lib/postgresql/*/bin)")
    bin_dir = programs[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="radiobject-postgres-", dir="/tmp"))
    password, port = secrets.token_hex(12), free_port()
    (folder / "password").write_text(password, encoding="utf-8")
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("nobody")
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    server = None
    try:
        subprocess.run(
            [
                bin_dir / "initdb",
                *("-D", folder / "data", "-U", "dagster", f"--pwfile={folder / 'password'}"),
                *("--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **as_user,
        )
        server = subprocess.Popen(
            [
                bin_dir / "postgres",
                *("-D", folder / "data", "-p", str(port), "-h", "127.0.0.1"),
                *("-c", "unix_socket_directories=", "-c", "fsync=off"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            **as_user,
        )
        known = {**os.environ, "PGPASSWORD": password}
        create = [bin_dir / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "dagster", "dagster"]
        wait_until(
            "Postgres answers",
            lambda: subprocess.run(create, env=known, capture_output=True, check=False).returncode == 0,
        )
        yield {"POSTGRES_PORT": str(port), "POSTGRES_PASSWORD": password}
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


class Deployment:
    """Code location, webserver and daemon over a database and an S3 server, as docker-compose.yml says."""

    def __init__(self, folder: Path, database: Mapping[str, str], server: S3Server) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        home = folder / "dagster-home"
        home.mkdir()
        shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
        self.code_port, self.web_port = free_port(), free_port()
        workspace = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text(encoding="utf-8"))
        (location,) = (entry["grpc_server"] for entry in workspace["load_from"])
        assert (location["host"], location["port"]) == ("code", 4000)
        location.update(host="127.0.0.1", port=self.code_port)
        (home / "workspace.yaml").write_text(yaml.safe_dump(workspace), encoding="utf-8")
        env_file = {
            "POSTGRES_PASSWORD": database["POSTGRES_PASSWORD"],
            "DATA_DIR": str(self.data),
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_ENDPOINT_URL": server.endpoint,
            # as some fill in the example: empty is absent
            "AWS_SESSION_TOKEN": "",
            "AWS_REGION": "",
            "RADIOBJECT_WORKERS": "",
            "RADIOBJECT_MEMORY_MB": "256",
        }
        services = compose(env_file)["services"]
        here = {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": database["POSTGRES_PORT"],
            "DAGSTER_HOME": str(home),
            "PATH": f"{BIN}{os.pathsep}/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONUNBUFFERED": "1",
            **({"PYTHONPATH": str(ROOT)} if "DEPLOYED_BIN" not in os.environ else {}),
        }
        ports = {"4000": self.code_port, "3000": self.web_port}
        self.services = {}
        for name in ("code", "webserver", "daemon"):
            said = services[name]
            handed = env_file if said.get("env_file") == [".env"] else {}
            environment = {**handed, **said["environment"], **here}
            if "RADIOBJECT_DATASET" in environment:
                environment["RADIOBJECT_DATASET"] = str(self.data / "dataset.yaml")
            words = shlex.split(said["command"])
            words = [str(ports.get(word, word)) for word in words]
            words = [
                word.replace("0.0.0.0", "127.0.0.1").replace("/opt/dagster", str(home)) for word in words
            ]
            words[0] = str(BIN / words[0])
            self.services[name] = Service(name, words, environment, folder)
        self.health = {
            name: [str(ports.get(word, word)) for word in services[name]["healthcheck"]["test"][1:]]
            for name in self.services
        }

    def start(self) -> None:
        """Start all, in the order of the file: each when what it depends on is healthy."""
        for name in ("code", "webserver", "daemon"):
            self.services[name].start()
            if name != "daemon":  # its first heartbeat comes later
                self.wait_for(name)

    def wait_for(self, name: str) -> None:
        wait_until(f"{name} is healthy; it says: {self.services[name].says()}", lambda: self.is_healthy(name))

    def is_healthy(self, name: str) -> bool:
        """The service's own health check."""
        service = self.services[name]
        assert service.process is not None
        if service.process.poll() is not None:
            pytest.fail(f"{name} ended: {service.says()}")
        words = [word.replace("127.0.0.1:3000", f"127.0.0.1:{self.web_port}") for word in self.health[name]]
        words[0] = str(BIN / words[0])
        done = subprocess.run(words, env=service.environment, capture_output=True, check=False)
        return done.returncode == 0

    def stop(self) -> None:
        for service in self.services.values():
            service.kill()

    def ask(self, query: str, **variables: Any) -> Any:
        """An answer of the webserver's GraphQL."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.web_port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = json.load(answer)
        assert "errors" not in content, content["errors"]
        return content["data"]

    def runs(self) -> list[dict[str, str]]:
        """Runs of arrivals: `status` and `partition`, the newest first."""
        found = self.ask("{runsOrError {... on Runs {results {runId status jobName tags {key value}}}}}")[
            "runsOrError"
        ]["results"]
        return [
            {
                "run_id": run["runId"],
                "status": run["status"],
                "job": run["jobName"],
                "partition": {tag["key"]: tag["value"] for tag in run["tags"]}.get("dagster/partition", ""),
            }
            for run in found
        ]

    def reload(self) -> Any:
        """What the button "Reload" does."""
        return self.ask(
            'mutation {reloadRepositoryLocation(repositoryLocationName: "radiobject_assets") '
            "{__typename ... on WorkspaceLocationEntry {loadStatus locationOrLoadError {__typename}}}}"
        )

    def describe(self, *path: str) -> str:
        """The description of an asset as its page shows it."""
        found = self.ask(
            "query($key: AssetKeyInput!) {assetNodeOrError(assetKey: $key) "
            "{__typename ... on AssetNode {description}}}",
            key={"path": list(path)},
        )
        return str(found["assetNodeOrError"]["description"])
