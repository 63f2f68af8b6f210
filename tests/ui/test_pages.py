"""The UI over a home that was run: lineage by name, a green check, plots and the preview picture."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# With this set, the pictures of the pages are kept (docs/images/lineage.png is one of them).
KEPT = os.environ.get("RADIOBJECT_SCREENSHOTS")
# The group names as the UI spells them when all are expanded.
EXPANDED = "%2C".join(f"global%40global%3A{name}" for name in ("landing", "store", "training"))

pytestmark = pytest.mark.browser

ASSETS = ("raw_dicom", "series", "ct", "seg", "t1w", "subjects", "dataset", "splits", "patch_cache")
WAIT_S = 90


@pytest.fixture(scope="module")
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
        "--window-size=2900,1250",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    opened = webdriver.Chrome(options=options, service=Service(driver))
    opened.set_page_load_timeout(WAIT_S)
    try:
        yield opened
    finally:
        opened.quit()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(KEPT) if KEPT else tmp_path_factory.mktemp("screenshots")


def test_the_lineage_shows_every_asset_by_name(served_home: str, browser: Any, pictures: Path) -> None:
    text = _opened(browser, f"{served_home}/asset-groups?expanded={EXPANDED}", *ASSETS)
    for name in ASSETS:
        assert name in text
    _saved(browser, pictures / "lineage.png")


def test_an_asset_shows_its_checks_as_passed(served_home: str, browser: Any, pictures: Path) -> None:
    text = _opened(browser, f"{served_home}/assets/demo/splits?view=checks", "no_leakage", "Passed")
    assert "no_leakage" in text
    assert "Passed" in text
    _saved(browser, pictures / "checks.png")


def test_an_asset_page_shows_numbers_and_a_preview(served_home: str, browser: Any, pictures: Path) -> None:
    text = _opened(
        browser, f"{served_home}/assets/demo/seg?view=partitions&partition=batch-001", "peak_memory_mb"
    )
    for name in ("volumes", "peak_memory_mb", "memory_budget_mb", "preview"):
        assert name in text
    assert "phantom-" not in text
    _saved(browser, pictures / "asset.png")
    assert _width_of_preview(browser) > 100
    _saved(browser, pictures / "preview.png")


def _opened(browser: Any, address: str, *awaited: str) -> str:
    """The page's text once it has everything that is awaited."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(address)

    def text(opened: Any) -> str:
        return str(opened.find_element(By.TAG_NAME, "body").text)

    with contextlib.suppress(TimeoutException):  # the assertions say what is missing
        WebDriverWait(browser, WAIT_S).until(lambda opened: all(word in text(opened) for word in awaited))
    return text(browser)


def _width_of_preview(browser: Any) -> int:
    """Pixels of the picture behind `[Show Markdown]`."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.find_element(By.XPATH, "//*[text()='[Show Markdown]']").click()
    shown = WebDriverWait(browser, WAIT_S).until(
        lambda opened: opened.find_element(By.CSS_SELECTOR, "img[src^='data:image/png']")
    )
    return int(shown.get_property("naturalWidth"))


def _saved(browser: Any, path: Path) -> None:
    browser.save_screenshot(str(path))
    assert path.stat().st_size > 20_000
