"""The pages of the UI after the demo, one for each asset and each check: what a person sees on them.

With RADIOBJECT_SCREENSHOTS=FOLDER a picture of every page is kept there, to be looked at. Three of them are
those of the README and the guide, in docs/images.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from tests.served import ask
from tests.ui.conftest import KEPT, WAIT_S, Demo

# The group names as the UI spells them when all are expanded.
EXPANDED = "%2C".join(f"global%40global%3A{name}" for name in ("landing", "store", "training"))

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

LINE = ("raw_dicom", "series", "ct", "seg", "dataset", "splits", "patch_cache")
"""In the order of the data's way."""
COLLECTIONS = ("ct", "seg", "t1w")
SAYS = {
    "raw_dicom": r"\d+ files \([\d.]+ [kM]B\): \d+ DICOM, \d NIfTI",
    "series": r"\d+ series: \d+ ingestable, \d+ quarantined \(missing_slice\)",
    "ct": r"\d volumes, [\d.]+ [kM]B: \d written, 1 series quarantined \(missing_slice\)",
    "seg": r"1 volume, [\d.]+ [kM]B: 1 written",
    "t1w": r"\d volumes, [\d.]+ [kM]B: \d written",
    "subjects": r"\d subjects, \d with images",
    "dataset": r"snapshot-0001: 8 subjects, 9 ct, 7 seg, 8 t1w",
    "splits": r"8 subjects: train 5, validation 2, test 1",
    "patch_cache": r"\d+ patches of \d subjects?, [\d.]+ [kM]B",
    "profile": r"24 volumes: 24 looked at now, \d unlike the others",
    "sheet": r"a page of \d+ kB",
}
"""The first line of what the latest run tells, in words."""
MUST = {"integrity", "labels_complete", "no_leakage", "volumes_verified"}
BROKEN = ("something went wrong", "Unexpected GraphQL error", "An unexpected error", "Not found")
PAGE, WIDE = (1500, 1300), (2900, 1500)


def test_the_demo_prints_no_warning(demo: Demo) -> None:
    assert demo.err == ""
    assert "arning" not in demo.out


def test_the_lineage_shows_every_asset_by_name_from_left_to_right(
    port: int, browser: Any, pictures: Path
) -> None:
    names = [path[-1] for path in _assets(port)]
    text = _opened(browser, port, f"asset-groups?expanded={EXPANDED}", *names, size=WIDE)
    for word in (*names, "landing", "store", "training"):
        assert word in text
    _saved(browser, pictures / "lineage.png")
    places = [_left_of(browser, name) for name in LINE]
    assert places == sorted(places)


def test_every_assets_page_teaches_and_says_first_what_happened(
    port: int, browser: Any, pictures: Path, subtests_of: Callable[[str], Any]
) -> None:
    assets = _assets(port)
    # those of one making are alike; all of them when pictures are kept
    for path in assets if KEPT else [one for one in assets if one[-1] not in ("seg", "t1w", "upkeep")]:
        with subtests_of(path[-1]):
            # what was not made yet (the nightly upkeep) teaches all the same
            awaited = ("memory_budget_mb", "Downstream assets") if path[-1] in SAYS else ("What it is.",)
            text = _opened(browser, port, f"assets/{'/'.join(path)}", *awaited)
            _is_sound(text)
            assert "No description found" not in text
            if path[-1] not in SAYS:
                continue
            for lesson in ("What it is.", "Made of", "When it is red"):
                assert lesson in text
            assert re.search(SAYS[path[-1]], text)
            assert text.index("summary") < text.index("memory_budget_mb")
            if path[-1] in COLLECTIONS:
                assert _widths_of_pictures(browser)[0] >= 100, "the picture shows without a click"


def test_a_partitions_page_shows_its_pictures(port: int, browser: Any, pictures: Path) -> None:
    for name in COLLECTIONS:
        path = f"assets/demo/{name}?view=partitions&partition=batch-001"
        text = _opened(browser, port, path, "memory_budget_mb", "preview_large", size=(1500, 1100))
        _is_sound(text)
        assert _widths_of_pictures(browser)[0] >= 100
        _saved(browser, pictures / f"collection-{name}.png")
        assert max(_widths_of_pictures(browser, large=True)) > 400
        _saved(browser, pictures / f"picture-{name}.png")


def test_every_checks_page_says_what_it_looks_at_and_what_came_of_it(
    port: int, browser: Any, pictures: Path, subtests_of: Callable[[str], Any]
) -> None:
    checks = _checks(port)
    # each third page of what is alike; all of them when pictures are kept
    chosen = checks if KEPT else [one for n, one in enumerate(checks) if n % 3 == 0 or one[1] in MUST]
    for path, check in chosen:
        with subtests_of(f"{path[-1]}-{check}"):
            url = f"assets/{'/'.join(path)}?view=checks&checkDetail={check}"
            text = _opened(browser, port, url, "Latest execution", "Timestamp")
            _is_sound(text)
            assert "No description provided" not in text
            about = text[text.index("About\n") : text.index("Latest execution\n")]
            assert len(about) > 120, about
            told = text[text.index("Latest execution\n") : text.index("Evaluation result\n")]
            assert re.search(r"\d+ [a-z]+|no volumes of this collection", told), told
            if check == "labels_complete":
                assert "images without the labels that training needs" in told
                assert "Deliver their labels" in told
                _saved(browser, pictures / "check.png")
    assert {check for _, check in checks} >= MUST


def test_the_command_writes_the_sheet_that_the_asset_keeps(demo: Demo, tmp_path: Path) -> None:
    written = tmp_path / "sheet.html"
    arguments = ["sheet", str(demo.home / "dataset.yaml"), "-o", str(written)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    kept = (demo.home / "work" / "sheet.html").read_text(encoding="utf-8")
    splits = re.compile("Subjects and volumes.*?</figure>", re.DOTALL)
    assert splits.findall(written.read_text(encoding="utf-8")) == splits.findall(kept) != []


def test_the_sheet_of_the_demo_reads_in_a_browser(demo: Demo, browser: Any, pictures: Path) -> None:
    from selenium.webdriver.common.by import By

    sheet = demo.home / "work" / "sheet.html"
    browser.set_window_size(1280, 1250)
    browser.get(sheet.as_uri())
    text = str(browser.find_element(By.TAG_NAME, "body").text)
    for word in ("8 subjects", "24 volumes", "labels complete", "train", "Unlike the others", "liver lesion"):
        assert word in text
    assert "phantom-" not in text
    assert len(_widths_of_pictures(browser)) > 3
    _saved(browser, pictures / "sheet.png")
    browser.set_window_size(420, 900)
    wide = int(browser.execute_script("return document.documentElement.scrollWidth"))
    assert wide <= int(browser.execute_script("return window.innerWidth")), "it scrolls sideways on a phone"


def test_a_runs_page_says_what_was_done(port: int, browser: Any, pictures: Path) -> None:
    found = ask(port, "{runsOrError {... on Runs {results {id jobName}}}}")["runsOrError"]["results"]
    (run, *_) = [run["id"] for run in found if "process_arrival" in run["jobName"]]
    text = _opened(browser, port, f"runs/{run}?logs=volumes", "written", size=(1900, 1200))
    _is_sound(text)
    assert re.search(r"INFO\s+\d volumes, [\d.]+ [kM]B: \d written", text)
    _saved(browser, pictures / "run.png")


@pytest.fixture
def subtests_of(browser: Any, pictures: Path) -> Iterator[Callable[[str], Any]]:
    """Pages in turn: each that is not as it should be is told, and the others still come."""
    wrong: list[str] = []

    @contextlib.contextmanager
    def page(name: str) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
        _saved(browser, pictures / "pages" / f"{name}.png")

    yield page
    assert not wrong, "\n\n".join(wrong)


def _assets(port: int) -> list[list[str]]:
    nodes = ask(port, "{assetNodes {assetKey {path}}}")["assetNodes"]
    assert len(nodes) >= len(SAYS)
    return sorted(node["assetKey"]["path"] for node in nodes)


def _checks(port: int) -> list[tuple[list[str], str]]:
    query = "{assetNodes {assetKey {path} assetChecksOrError {... on AssetChecks {checks {name} }}}}"
    return sorted(
        (node["assetKey"]["path"], check["name"])
        for node in ask(port, query)["assetNodes"]
        for check in node["assetChecksOrError"].get("checks", ())
    )


def _is_sound(text: str) -> None:
    for word in BROKEN:
        assert word not in text
    assert "[Show JSON]" not in text
    assert '{"' not in text, "raw JSON"
    assert "phantom-" not in text, "an identifier"


def _opened(browser: Any, port: int, path: str, *awaited: str, size: tuple[int, int] = PAGE) -> str:
    """The page's text once it has everything that is awaited."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(*size)
    browser.get(f"http://127.0.0.1:{port}/{path}")

    def text(opened: Any) -> str:
        return str(opened.find_element(By.TAG_NAME, "body").text)

    with contextlib.suppress(TimeoutException):  # the assertions say what is missing
        WebDriverWait(browser, WAIT_S).until(
            lambda opened: all(word in text(opened) for word in awaited) and "Loading" not in text(opened)
        )
    return text(browser)


def _left_of(browser: Any, asset: str) -> int:
    """Where an asset stands in the lineage, in pixels from the left."""
    from selenium.webdriver.common.by import By

    named = browser.find_elements(By.XPATH, f"//*[local-name()='foreignObject']//*[text()='{asset}']")
    return max(int(one.rect["x"]) for one in named)


def _widths_of_pictures(browser: Any, *, large: bool = False) -> list[int]:
    """Pixels of the pictures on the page; with `large` after a click on the first `[Show Markdown]`."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    chosen = "img[src^='data:image/']"
    if large:
        before = len(browser.find_elements(By.CSS_SELECTOR, chosen))
        browser.find_element(By.XPATH, "//*[text()='[Show Markdown]']").click()
        WebDriverWait(browser, WAIT_S).until(
            lambda opened: len(opened.find_elements(By.CSS_SELECTOR, chosen)) > before
        )
    shown = WebDriverWait(browser, WAIT_S).until(lambda o: o.find_elements(By.CSS_SELECTOR, chosen))
    return [int(one.get_property("naturalWidth")) for one in shown]


def _saved(browser: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(path))
    assert path.stat().st_size > 20_000
