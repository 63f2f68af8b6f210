"""The map of the code is true: rooms, import rules, and every name and file that the pages tell."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "radiobject_assets"
PAGES = [
    ROOT / "docs" / "architecture.md",
    ROOT / "docs" / "words.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs" / "format.md",
    *sorted((ROOT / "docs" / "design").glob("*.md")),
]
ROOMS = {
    path.stem for path in PACKAGE.glob("[a-z]*") if path.suffix == ".py" or (path / "__init__.py").is_file()
}
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
DOTTED = re.compile(r"[a-z_]\w*(\.\w+)+")
FILE = re.compile(r"[\w.-]+(/[\w.-]+)*(/|\.(pyi?|md|toml|txt|json|ya?ml))")
# In a store, on a user's machine, or another program's: nothing of the repository.
ELSEWHERE = re.compile(
    r"(log|obs|obs_meta|volumes|collections|tmp|build|demo-home)/|.*\bdataset\.yaml|.*\.json"
)


def spans(page: Path) -> Iterator[str]:
    """What a page sets as code within a sentence."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!-- (\w+): made by .*?<!-- end of \1 -->", "", text, flags=re.DOTALL)
    yield from (match.group(1) for match in CODE.finditer(text))


def is_there(name: str) -> bool:
    """Whether a dotted name below the package is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = ".".join(["radiobject_assets", *parts[:count]])
        try:
            found: object = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and module.startswith(error.name):
                continue
            raise
        for part in parts[count:]:
            declared = getattr(found, "__annotations__", {})
            if not hasattr(found, part):
                return part in declared
            found = getattr(found, part)
        return True
    return False


def test_the_map_shows_the_rooms_and_the_import_rules_that_there_are() -> None:
    module = runpy.run_path(str(ROOT / "docs" / "make_architecture.py"))
    written = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert written == module["page"](written), "run `python docs/make_architecture.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_and_function_that_a_page_names_is_there(page: Path) -> None:
    named = {
        span.removeprefix("radiobject_assets.").removesuffix("()")
        for span in spans(page)
        if DOTTED.fullmatch(span.removesuffix("()"))
    }
    ours = {name for name in named if name.split(".")[0] in ROOMS and not FILE.fullmatch(name)}
    assert [name for name in sorted(ours) if not is_there(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = {span for span in spans(page) if FILE.fullmatch(span) and not ELSEWHERE.match(span)}
    missing = [
        name
        for name in sorted(named)
        if not any((base / name).exists() for base in (ROOT, PACKAGE, ROOT / "docs"))
    ]
    assert missing == []


def test_each_of_the_four_ways_has_numbered_steps_with_names() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    ways = text.partition("## Four ways")[2].partition("## Where to add")[0].split("\n### ")[1:]
    assert len(ways) == 4
    for way in ways:
        steps = re.findall(r"^\d+\. (.*)$", way, re.MULTILINE)
        assert len(steps) >= 5
        assert [step for step in steps if not CODE.search(step)] == []
