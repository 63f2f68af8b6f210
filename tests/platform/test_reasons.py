"""One list of reason codes, for code, checks and docs (command line and assets: `test_line`)."""

from __future__ import annotations

import re
from pathlib import Path

from radiobject_assets.diagnostics.arrival_rules import CIRCUMSTANCES
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "reasons.md"


def test_every_code_is_explained_once_in_code_and_docs() -> None:
    documented = re.findall(r"^\| `([a-z_]+)` \|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert documented == sorted(str(reason) for reason in Reason)
    assert set(EXPLANATIONS) == set(Reason)
    assert all(text.meaning and text.action for text in EXPLANATIONS.values())


def test_the_checks_speak_of_codes_of_the_list() -> None:
    assert set(CIRCUMSTANCES) <= set(Reason)
