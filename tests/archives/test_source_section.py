"""What dataset.yaml may say of sources and the receiver, and what is refused with a reason."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from radiobject_assets.archives.dicomweb import study_queries
from radiobject_assets.dataset.dataset_yaml import DatasetSettings, load_dataset
from radiobject_assets.dataset.source_section import ReceiverConfig, SourceConfig
from radiobject_assets.errors import ConfigurationError


def settings(tmp_path: Path, text: str) -> DatasetSettings:
    (tmp_path / "dataset.yaml").write_text(text, encoding="utf-8")
    return load_dataset(tmp_path / "dataset.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: {pacs: {url: 'http://pacs/dicom-web', token_env: T}}", "only sent over https"),
        ("sources: {pacs: {url: 'https://me:secret@pacs/dicom-web'}}", "no user, password"),
        ("sources: {pacs: {url: 'https://pacs/', username_env: U}}", "go together"),
        ("sources: {pacs: {url: 'https://pacs/', query: {Modalty: CT}}}", "can't be asked for"),
        ("sources: {pacs: {url: 'https://pacs/', query: {Modality: []}}}", "match everything"),
        ("sources: {pacs: {url: 'https://pacs/', days: 3, query: {StudyDate: 20260101-}}}", "either `days`"),
        ("sources: {received: {url: 'https://pacs/'}}", "choose another"),
        ("landing: s3://bucket/in\nsources: {pacs: {url: 'https://pacs/'}}", "local folder"),
        ("sources: {pacs: {url: 'https://pacs/', into: other}}", "'other' is none of them"),
        ("receiver: {callers_ca: ca.pem}", "needs `certificate`"),
        ("receiver: {ae_title: AN_AE_TITLE_THAT_IS_TOO_LONG}", "ae_title"),
        ("receiver: {callers: {SCANNER: []}}", "callers"),
    ],
)
def test_what_can_not_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        settings(tmp_path, text)
    assert "secret" not in str(caught.value) or said != "no user, password"


def test_a_source_delivers_into_the_local_landing_zone_that_it_names(tmp_path: Path) -> None:
    one = settings(
        tmp_path,
        "landing: [s3://bucket/in, first, second]\n"
        "sources: {a: {url: 'https://a/'}, b: {url: 'https://b/', into: second}}\n",
    )
    assert one.delivery_place(one.sources["a"].into) == tmp_path / "first"
    assert one.delivery_place(one.sources["b"].into) == tmp_path / "second"


def test_each_combination_of_values_is_asked_for() -> None:
    source = SourceConfig(
        url="https://pacs/", query={"Modality": ["CT", "PT"], "PatientID": ["1", "2"]}, days=2
    )
    asked = study_queries(source, date(2026, 3, 1))
    assert len(asked) == 4
    assert {one["ModalitiesInStudy"] for one in asked} == {"CT", "PT"}
    assert {one["StudyDate"] for one in asked} == {"20260227-"}
    assert study_queries(SourceConfig(url="https://pacs/"), date(2026, 3, 1)) == [{}]


def test_callers_are_known_by_title_and_address() -> None:
    anybody = ReceiverConfig()
    assert anybody.may_send("WHOEVER", "192.0.2.9")
    known = ReceiverConfig(callers={"A": "192.0.2.1", "B": ["192.0.2.1", "192.0.2.2"], "C": None})
    assert all(known.may_send(*one) for one in (("A", "192.0.2.1"), ("B", "192.0.2.2"), ("C", "::1")))
    assert not any(known.may_send(*one) for one in (("A", "192.0.2.2"), ("D", "192.0.2.1")))
