"""Data cards: what they say, whom they do not name, and that Croissant's own library reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from delivery import Delivery

from radiobject_assets.cli.commands import app
from radiobject_assets.store import RadiObject, create_snapshot, upsert_subjects


@pytest.fixture
def folder(delivered: Delivery, tmp_path: Path) -> Path:
    arguments = ["card", delivered.uri, "--dataset", str(delivered.dataset), "-o", str(tmp_path / "card")]
    app(args=arguments, standalone_mode=False)
    return tmp_path / "card"


def test_a_card_tells_what_is_in_the_snapshot_and_names_nobody(delivered: Delivery, folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    radi = RadiObject(delivered.uri)
    for told in (
        "# phantoms", "Phantom chests with lesions", "| Licence | CC-BY-4.0 |", "| Owners | imaging |",
        "| Subjects | 4 |", "The phantom makers", "- **ct**: CT series in Hounsfield units", "| test | 1 |",
    ):  # fmt: skip
        assert told in text
    for name in radi.collection_names:
        shape = "x".join(map(str, radi.collection(name).iloc[0].shape))
        assert f"| {name} |" in text
        assert shape in text
    for file in ("README.md", "croissant.json"):
        content = (folder / file).read_text(encoding="utf-8")
        assert not [name for name in delivered.identifiers if name in content]


# In a process of its own: its logging closes the stream that was standard error when it was imported, which
# under pytest is the capture of all later tests.
_READ = """
import json, sys
import mlcroissant
dataset = mlcroissant.Dataset(jsonld=sys.argv[1])
issues = dataset.metadata.ctx.issues
read = [record["entries/voxels"] for record in dataset.records("entries")]
print(json.dumps({
    "issues": [str(one) for one in (*issues.errors, *issues.warnings)],
    "name": dataset.metadata.name,
    "voxels": [one.decode() for one in read if isinstance(one, bytes)],
}))
"""


def test_croissants_own_library_accepts_the_card_and_reads_the_manifest_by_it(folder: Path) -> None:
    if find_spec("mlcroissant") is None:
        pytest.skip("mlcroissant is not installed")
    command = [sys.executable, "-c", _READ, str(folder / "croissant.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["issues"] == []
    assert told["name"] == "phantoms"
    lines = (folder / "manifest.jsonl").read_bytes().splitlines()
    assert told["voxels"] == [json.loads(line)["voxels"] for line in lines if b'"voxels"' in line]


def test_values_of_few_subjects_are_counted_together(
    delivered: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = RadiObject(delivered.uri).obs_subject_ids
    upsert_subjects(
        delivered.uri,
        pd.DataFrame(
            {"obs_subject_id": [*ids, "v", "w", "x"], "diagnosis": ["Meier's disease", *["well"] * 6]}
        ),
    )
    create_snapshot(delivered.uri, "second")
    delivered.dataset.write_text(
        delivered.dataset.read_text(encoding="utf-8") + "split: {stratify_by: diagnosis}\n", encoding="utf-8"
    )
    capsys.readouterr()
    app(args=["card", delivered.uri, "--dataset", str(delivered.dataset)], standalone_mode=False)
    text = capsys.readouterr().out
    assert "| well |" in text
    assert "| fewer than 5 subjects |" in text
    assert "Meier" not in text
