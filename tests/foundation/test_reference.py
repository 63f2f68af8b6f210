"""The reference pages say what the code does."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_on_dataset_yaml_is_what_the_model_says() -> None:
    module = runpy.run_path(str(DOCS / "make_dataset_reference.py"))
    written = (DOCS / "reference" / "dataset.md").read_text(encoding="utf-8")
    assert written == module["reference"](), "run `python docs/make_dataset_reference.py`"


def test_every_key_of_dataset_yaml_is_explained() -> None:
    module = runpy.run_path(str(DOCS / "make_dataset_reference.py"))
    for line in module["reference"]().splitlines():
        if line.startswith("| `"):
            assert len(line.rstrip(" |").split("|")) == 5, f"no meaning: {line}"


def test_the_pages_on_the_python_interface_have_every_public_name() -> None:
    pages = runpy.run_path(str(DOCS / "make_api_reference.py"))["pages"]()
    written = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference" / "api").iterdir()}
    assert written == pages, "run `python docs/make_api_reference.py`"


def test_the_page_on_the_command_line_is_what_the_commands_say() -> None:
    page = runpy.run_path(str(DOCS / "make_command_reference.py"))["page"]
    written = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert written == page(), "run `python docs/make_command_reference.py`"
