"""What commands that find print: one document with a schema, one text, one exit code."""

from __future__ import annotations

import io

import jsonschema
from rich.console import Console

from radiobject_assets.cli.findings_output import print_findings
from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.diagnostics.findings_document import SCHEMA, exit_code, findings_document

FOUND = Report(
    40,
    "volumes",
    (
        *tuple(Finding(kinds.GEOMETRY, f"volume {n:02d}", "det 0", obs_id=f"Doe-{n}") for n in range(12)),
        Finding(kinds.CONSTANT, "volume 30", where="/data/30.dcm"),
    ),
    {"share": 0.3},
)


def test_the_document_fits_its_schema_and_counts_what_was_found() -> None:
    for reports in ([FOUND], [Report(3, "rows")], []):
        document = findings_document("doctor", "store", reports, with_where=True)
        jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    document = findings_document("doctor", "store", [FOUND, Report(7, "rows")])
    assert document["totals"] == {"geometry": 12, "voxels_constant": 1}
    assert document["looked_at"] == {"volumes": 40, "rows": 7}
    assert "Doe" not in str(document)
    assert "/data" not in str(document)
    assert exit_code([FOUND]) == 1
    assert exit_code([Report(3, "rows")]) == 0


def test_a_person_reads_ten_of_each_kind_the_gravest_first_and_where_only_if_asked() -> None:
    said = io.StringIO()
    print_findings([FOUND], Console(file=said, width=120))
    text = said.getvalue()
    assert text.index("unsound affine") < text.index("all voxels have one value")
    assert text.count("Doe-") == 10
    assert "and 2 more" in text
    assert "/data/30.dcm" in text
    assert "13 findings of 2 kinds, 12 of them errors" in text
    said = io.StringIO()
    print_findings([FOUND], Console(file=said, width=120), with_where=False)
    assert "Doe" not in said.getvalue()
