"""The pages on attributes and reasons say what the code allows and gives."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR

from radiobject_assets.imaging.dicom.tags import ATTRIBUTES, IDENTITY, OPTIONAL_ATTRIBUTES
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["attributes.md", "reasons.md"])
def test_a_page_is_what_the_code_says(name: str) -> None:
    pages = runpy.run_path(str(DOCS / "make_imaging_reference.py"))["PAGES"]
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == pages[name](), "run `python docs/make_imaging_reference.py`"


def test_the_page_on_evidence_is_what_the_rules_say() -> None:
    page = runpy.run_path(str(DOCS / "make_evidence_reference.py"))["page"]
    assert (DOCS / "reference" / "evidence.md").read_text(encoding="utf-8") == page(), (
        "run `python docs/make_evidence_reference.py`"
    )


def test_every_reason_has_a_meaning_and_an_action() -> None:
    assert EXPLANATIONS.keys() == set(Reason)
    for explanation in EXPLANATIONS.values():
        assert explanation.meaning.endswith(".")
        assert explanation.action.endswith(".")


def test_no_allowed_attribute_is_a_name_a_comment_or_private() -> None:
    tags = [tag for tag, _ in ATTRIBUTES.values()] + [tag for _, tag, _ in OPTIONAL_ATTRIBUTES.values()]
    for tag in tags:
        assert (tag >> 16) % 2 == 0
        assert dictionary_VR(tag) not in ("PN", "LT", "ST", "UT", "UC", "SQ")
    assert not set(tags) & set(IDENTITY)
