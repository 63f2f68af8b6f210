"""Tests in the order that suits who waits, by how long each file took when measured.

    pytest -p tests.quick --record-durations      every file's seconds and tests, into durations.json
    pytest -p tests.quick --fit 300               files with the shortest tests first, 300 s of them in all
    pytest -p tests.quick --longest-first         so that no worker is left alone with a long file at the end

Whole files, since tests of a file share what is costly to make. A file that was never measured always runs.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

DURATIONS = Path(__file__).with_name("durations.json")
_seconds: Counter[str] = Counter()
_tests: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ways to use this."""
    parser.addoption("--fit", type=float, help="seconds of tests to choose, of one worker after the other")
    parser.addoption("--longest-first", action="store_true", help="files that take longest go first")
    parser.addoption("--record-durations", action="store_true", help=f"measure into {DURATIONS.name}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the files that don't fit, and put the long ones first."""
    measured = json.loads(DURATIONS.read_text(encoding="utf-8")) if DURATIONS.is_file() else {}
    if config.getoption("--longest-first"):
        # what was never measured may be long
        items.sort(key=lambda item: -measured.get(_file(item.nodeid), (1e9, 1))[0])
    limit_s = config.getoption("--fit")
    if limit_s is None:
        return
    left_out = files_left_out(measured, limit_s)
    config.hook.pytest_deselected(items=[item for item in items if _file(item.nodeid) in left_out])
    items[:] = [item for item in items if _file(item.nodeid) not in left_out]


def files_left_out(measured: dict[str, tuple[float, int]], limit_s: float) -> set[str]:
    """Files (each with its seconds and tests) that don't fit when those with the shortest tests go first."""
    left_out = set()
    for name, (seconds, _) in sorted(measured.items(), key=lambda item: item[1][0] / item[1][1]):
        if seconds <= limit_s:
            limit_s -= seconds
        else:
            left_out.add(name)
    return left_out


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test's seconds, those of its fixtures as well."""
    _seconds[_file(report.nodeid)] += report.duration
    _tests[_file(report.nodeid)] += report.when == "call"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was measured, if that was asked for; once, where workers report to."""
    if session.config.getoption("--record-durations") and not hasattr(session.config, "workerinput"):
        found = {name: [round(s, 1), _tests[name]] for name, s in sorted(_seconds.items()) if _tests[name]}
        lines = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in found.items())
        DURATIONS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
