"""The UI as `make demo` and `make ui` leave and start it, every check evaluated, and a headless Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from radiobject_assets.definitions import build_definitions
from radiobject_assets.platform.headless import open_instance
from tests.platform.deployed import ROOT, free_port
from tests.platform.shared_demo import shared_demo
from tests.served import ENVIRONMENT, up, wait_for_page

WAIT_S = 120
KEPT = os.environ.get("RADIOBJECT_SCREENSHOTS")


@dataclass(frozen=True)
class Demo:
    """A home that the demo's command made, and what the command printed."""

    home: Path
    out: str
    err: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    if not KEPT:
        made = shared_demo(tmp_path_factory)
        return Demo(made.home, made.printed, made.errors)
    # pictures that are kept are of the command's own cohort, and show no path of this machine
    home = Path("/tmp/demo-home")
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "radiobject_assets.cli", "demo", "--home", str(home)],
        cwd=home,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Demo(home, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def browser_binaries() -> tuple[str, str]:
    """Chromium and its driver, or a skip that says what is missing."""
    pytest.importorskip("selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium or chromedriver is not installed (`make browser` installs them on Debian)")
    return chromium, driver


@pytest.fixture(scope="session")
def port(demo: Demo, browser_binaries: tuple[str, str]) -> Iterator[int]:
    """Port of the UI."""
    definitions = build_definitions(demo.home / "dataset.yaml")
    with open_instance(demo.home / "dagster") as instance:
        # an hour later the schedule has run these
        for name in definitions.get_repository_def().job_names:
            if "standing_checks" in name:
                assert definitions.resolve_job_def(name).execute_in_process(instance=instance).success
    chosen = free_port()
    with up(demo.home, chosen) as process:
        wait_for_page(chosen, process)
        yield chosen


@pytest.fixture(scope="session")
def browser(browser_binaries: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = browser_binaries
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    opened = webdriver.Chrome(options=options, service=Service(driver))
    opened.set_page_load_timeout(WAIT_S)
    try:
        yield opened
    finally:
        opened.quit()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pictures of the pages go; with RADIOBJECT_SCREENSHOTS set they are kept there."""
    return Path(KEPT) if KEPT else tmp_path_factory.mktemp("screenshots")
