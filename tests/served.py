"""Dagster's UI as people start it: `radiobject-assets up` in a folder, and questions to its GraphQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.platform.deployed import ROOT, wait_until

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "radiobject_assets.cli", "up", *arguments]


@contextmanager
def up(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work in a folder, ended as Ctrl-C ends it."""
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command("--port", str(port)),
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_page(port: int, process: subprocess.Popen[bytes]) -> str:
    """Address of the webserver once it answers with the data set's assets."""

    def answers() -> bool:
        assert process.poll() is None, "`radiobject-assets up` ended"
        return bool(ask(port, "{assetNodes {id}}")["assetNodes"])

    wait_until("the webserver shows the assets", answers)
    return f"http://127.0.0.1:{port}"


def ask(port: int, query: str) -> Mapping[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]  # type: ignore[no-any-return]
