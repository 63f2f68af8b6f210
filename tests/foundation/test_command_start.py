"""How a command starts and ends: what is understood without typer is what typer understands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from radiobject_assets.cli.commands import app
from radiobject_assets.cli.ingest import IngestRequest, plain_request

WORDS = ("a", "in/b", "", "-", "--", "~/x", "c d", "7", "007", "-1", "1_0", "x=y", "--json", "-j", "--jso")
OPTIONS = ("--store", "--dataset", "--memory-mb", "--workers", "--help", "--json=1", "--debug", "--stor")


@pytest.fixture(scope="module")
def typer_request() -> Any:
    """What typer's own parser makes of the arguments of `ingest`; None where it refuses them."""
    from typer.main import get_command

    command: Any = get_command(app).commands["ingest"]  # type: ignore[attr-defined]  # it is a group

    def parse(arguments: list[str]) -> IngestRequest | None:
        try:
            given = command.make_context("ingest", list(arguments)).params
        except Exception:  # noqa: BLE001  (typer's and its click's, which have no common public name)
            return None
        assert given["as_json"]
        return IngestRequest(
            tuple(given["source"]), given["store"], given["dataset"], given["memory_mb"], given["workers"]
        )

    return parse


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(WORDS),
            st.sampled_from(OPTIONS),
            st.builds("{}={}".format, st.sampled_from(OPTIONS), st.sampled_from(WORDS)),
            st.sampled_from(("--json", "--store", "--workers")),
        ),
        max_size=7,
    )
)
def test_a_command_line_that_is_understood_without_typer_means_the_same_to_typer(
    typer_request: Any, arguments: list[str]
) -> None:
    request = plain_request(arguments)
    if request is not None:
        assert request == typer_request(arguments)


def test_the_usual_command_lines_need_no_typer() -> None:
    line = "in more --store=s3://b/s --json --memory-mb 512 --workers=2 --dataset d.yaml"
    asked = IngestRequest(("in", "more"), "s3://b/s", Path("d.yaml"), 512, 2)
    assert plain_request(line.split()) == asked
    assert plain_request(["in", "--json"]) == IngestRequest(("in",))


@pytest.mark.parametrize(
    "line", ["in --store s", "--json --store s", "in --json --help", "in --json --stor s"]
)
def test_what_people_read_mistakes_and_help_are_left_to_typer(line: str) -> None:
    assert plain_request(line.split()) is None


def test_what_is_registered_for_the_end_is_done_and_all_output_is_written() -> None:
    program = (
        "import atexit, sys; from radiobject_assets.cli.start import leave\n"
        "atexit.register(lambda: print('registered'))\n"
        "sys.stdout.write('x' * 100_000 + '\\n'); leave(3)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout.splitlines() == ["x" * 100_000, "registered"]


def test_a_thread_that_is_still_at_work_is_waited_for() -> None:
    program = (
        "import threading, time; from radiobject_assets.cli.start import leave\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('done', flush=True))).start(); leave(0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
