"""What a message, docstring, comment, page or deploy file names is there: nobody is sent where nothing is.

`texts` collects what is said and what there is; here each kind of name is looked for in one text.
"""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from radiobject_assets.store.storage import config
from tests.foundation.texts import (
    ROOT,
    Text,
    commands,
    file_names,
    is_there,
    make_targets,
    modules,
    settings,
    texts,
)

False_ = tuple[int, str]
"""Where in a text a false name is, and what is wrong with it."""


def commands_in(text: Text) -> Iterator[False_]:
    """Commands of `radiobject-assets` and their options; `a radiobject-assets store` is none."""
    for said in re.finditer(r"(?<!\ba )\bradiobject-assets[ ]+([a-z][\w-]*)((?:\\\n|[^`\n])*)", text.text):
        name, rest = said[1], said[2].replace("\\\n", " ")
        if any(known.startswith(f"{name} ") for known in commands()):
            second = rest.split()[0] if rest.split() else ""
            name += f" {second}" if not second.startswith("-") and "|" not in second else ""
        if name not in commands():
            if said[0] != "radiobject-assets phantom":  # what UIDs of phantoms are made from
                yield said.start(), f"no command `radiobject-assets {name}`"
            continue
        for option in re.findall(r"(?<!\S)\[?(--[a-z][a-z-]*)", rest):
            if option not in commands()[name]:
                yield said.start(), f"`radiobject-assets {name}` has no {option}"


def options_in(text: Text) -> Iterator[False_]:
    """Options that messages of the command line name by themselves."""
    if text.path.startswith("radiobject_assets/cli/"):
        known = frozenset().union(*commands().values())
        for said in re.finditer(r"(?<![\w-])--[a-z][a-z-]*", text.text):
            if said[0] not in known:
                yield said.start(), f"no command has {said[0]}"


def paths_in(text: Text) -> Iterator[False_]:
    """Files and folders of the repository, by path or (Python files) by name."""
    for said in re.finditer(rf"(?<![\w/.:-])(?:{_FOLDERS})/[\w./*-]*", text.text):
        path = said[0].rstrip(".")
        if text.text[said.end() : said.end() + 1] not in ("{", "<") and not any(ROOT.glob(path.rstrip("/"))):
            yield said.start(), f"no file {path}"
    for said in re.finditer(r"(?<![\w/*-])[\w-]+\.pyi?\b", text.text):
        if said[0] not in file_names():
            yield said.start(), f"no file {said[0]}"


_FOLDERS = r"docs|tests|benchmarks|deploy|radiobject_assets|resources|\.ci"


def links_in(text: Text) -> Iterator[False_]:
    """Links of a page to other pages and to their headings."""
    if not text.path.endswith(".md"):
        return
    here = ROOT / text.path
    for said in re.finditer(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", text.text):
        target = (here.parent / said[1]).resolve() if said[1] else here
        if not target.exists():
            yield said.start(), f"no page {said[1]}"
        elif said[2] and said[2] not in _anchors(target.read_text(encoding="utf-8")):
            yield said.start(), f"no heading #{said[2]} in {target.name}"


def _anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)", re.sub(r"^```.*?^```", "", page, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def modules_in(text: Text) -> Iterator[False_]:
    """Modules of the project and what is in them; those of `python -m`; imports that a page shows."""
    for said in re.finditer(r"(?<![\w.])radiobject_assets(?:\.\w+)+(?::\w+)?", text.text):
        name = said[0].replace(":", ".")
        if name not in _OTHER_NAMES and not is_there(name):
            yield said.start(), f"no {name}"
    for said in re.finditer(r"python -m ((?:radiobject_assets|benchmarks|tests)[\w.]*)", text.text):
        name = said[1].rstrip(".")
        runnable = f"{name}.__main__" if any(m.startswith(f"{name}.") for m in modules()) else name
        if runnable not in modules() and text.text[said.end() : said.end() + 1] != "$":  # of a shell's loop
            yield said.start(), f"nothing to run in {name}"
    for said in re.finditer(r"from (radiobject_assets[\w.]*) import \(?([\w, \n]+)", text.text):
        for name in re.findall(r"\w+", said[2] if "(" in said[0] else said[2].split("\n")[0]):
            if not is_there(f"{said[1]}.{name}"):
                yield said.start(), f"no {name} in {said[1]}"


_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_OTHER_NAMES = frozenset(
    {
        *_PROJECT["entry-points"],
        # keys that look like modules: TileDB's counters with ours beside them, and settings that it carries
        "radiobject_assets.VFS.read_ops_num",
        "radiobject_assets.VFS.read_byte_num",
        "radiobject_assets.Reader.read_unfiltered_byte_num",
        "radiobject_assets.s3_deadline_s",
        "radiobject_assets.s3_profile",
    }
)


def short_names_in(text: Text) -> Iterator[False_]:
    """Names like `pool.run_tasks` in docstrings and comments, whose first part is a module of ours."""
    if not text.in_source:
        return
    for said in re.finditer(r"`([a-z_]+)((?:\.[a-z_]+)+)(?:\(\))?`", text.text):
        name = said[1] + said[2]
        owners = [module for module in modules() if f".{module}".endswith(f".{said[1]}")]
        known = (
            name in settings() | _OTHER_NAMES
            or said[2] in _ENDINGS
            or any(is_there(o + said[2]) for o in owners)
        )
        if owners and not known:
            yield said.start(), f"no {name}"


_ENDINGS = frozenset(
    {".py", ".pyi", ".yaml", ".json", ".md", ".parquet", ".npy"}
)  # files: `paths_in` sees to ours


def settings_in(text: Text) -> Iterator[False_]:
    """Keys of dataset.yaml below another key, and settings of the store's configuration."""
    tops = "|".join(sorted({key.partition(".")[0] for key in settings() if "." in key} - {"imaging"}))
    for said in re.finditer(rf"`(({tops})(?:\.[a-z_]+)+)(?::[^`]*)?`", text.text):
        if said[1] not in settings() and not any(
            is_there(m + said[1].removeprefix(said[2])) for m in modules() if m.endswith(f".{said[2]}")
        ):
            yield said.start(), f"dataset.yaml has no {said[1]}"
    models = (
        r"(ReadConfig|WriteConfig|S3Config|TileConfig|CompressionConfig|OrientationConfig|RadiObjectConfig)"
    )
    for said in re.finditer(rf"\b{models}(?:\.([a-z_]+)|\(([^()]*)\))", text.text):
        fields = getattr(config, said[1]).model_fields
        for name in [said[2]] if said[2] else re.findall(r"(\w+)\s*=", said[3]):
            # the settings of RadiObject, which are understood as well
            if name not in fields and (said[1], name) != ("RadiObjectConfig", "io"):
                yield said.start(), f"{said[1]} has no {name}"


def variables_in(text: Text) -> Iterator[False_]:
    """Environment variables: something reads each."""
    for said in re.finditer(r"\b(?:RADIOBJECT|AWS|DAGSTER|POSTGRES)_[A-Z0-9_]*[A-Z0-9]\b", text.text):
        if said[0] not in _variables():
            yield said.start(), f"nothing reads {said[0]}"


@cache
def _variables() -> frozenset[str]:
    """Those that the product names in full, that Compose or Dagster's settings ask for, and others' own."""
    read = {text.text for text in texts() if text.in_source and not text.path.startswith("docs/")}
    for text in texts():
        if text.path in ("docker-compose.yml", "deploy/dagster.yaml"):
            read.update(re.findall(r"(?:\$\{|env: )(\w+)", text.text))
    return frozenset(read | {"DAGSTER_HOME", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"})


def targets_in(text: Text) -> Iterator[False_]:
    """Targets of make: in backticks, as a whole message, or as a command of a shell block."""
    said = [*re.finditer(r"`make ([a-z][a-z-]*)", text.text), *re.finditer(r"\Amake ([a-z-]+)\Z", text.text)]
    if text.path in ("Makefile", ".ci/run"):
        said += re.finditer(r"^(?:#\s+)?make ([a-z-]+)", text.text, re.M)
    for block in re.finditer(r"^```sh\n(.*?)^```", text.text, re.M | re.S):
        said += re.compile(r"^make ([a-z-]+)", re.M).finditer(text.text, *block.span(1))
    for each in said:
        if each[1] not in make_targets():
            yield each.start(), f"no `make {each[1]}`"


LOOKS: dict[str, Callable[[Text], Iterator[False_]]] = {
    "command": commands_in,
    "option": options_in,
    "file": paths_in,
    "link": links_in,
    "module": modules_in,
    "short name": short_names_in,
    "setting": settings_in,
    "environment variable": variables_in,
    "make target": targets_in,
}


@pytest.mark.parametrize("kind", LOOKS)
def test_everything_that_is_named_is_there(kind: str) -> None:
    found = [f"{text.place(at)}: {what}" for text in texts() for at, what in LOOKS[kind](text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("command", "there is no cache; run `radiobject-assets cache build`"),
        ("command", "run `radiobject-assets snapshot forget store`"),
        ("command", "radiobject-assets ingest in \\\n  --stores s"),
        ("option", "say where to: --stores URI"),
        ("file", "docs/own-data-set.md explains every key"),
        ("file", "the rules are in rules_of_scanners.py"),
        ("link", "see [the map](map.md)"),
        ("link", "see [the top](#nowhere)"),
        ("module", "as `radiobject_assets.store.pins` does"),
        ("module", "radiobject_assets.store:Radio"),
        ("module", "python -m benchmarks.nothing"),
        ("module", "from radiobject_assets.store import RadiObject, Radio"),
        ("short name", "see `store.pins`"),
        ("setting", "set `subjects.keys`"),
        ("setting", "configure(s3=S3Config(endpoints='x'))"),
        ("environment variable", "set RADIOBJECT_MEMORY"),
        ("make target", "run `make tests`"),
        ("make target", "make everything"),
    ],
)
def test_a_false_name_is_found(kind: str, said: str) -> None:
    path = "README.md" if kind == "link" else "radiobject_assets/cli/demo.py"
    assert list(LOOKS[kind](Text(path, 1, said)))


def test_every_variable_of_compose_is_in_the_example_that_is_to_be_copied() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert asked <= set(re.findall(r"^#?(\w+)=", (ROOT / "deploy/example.env").read_text(), re.M))


def test_every_script_and_entry_point_leads_to_something() -> None:
    targets = dict(_PROJECT["scripts"])
    for group, named in _PROJECT["entry-points"].items():
        targets.update({f"{group} {name}": target for name, target in named.items()})
    for name, target in targets.items():
        module, _, attribute = target.partition(":")
        found = importlib.import_module(module)
        assert not attribute or hasattr(found, attribute), name
