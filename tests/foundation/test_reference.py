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
