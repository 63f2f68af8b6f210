"""Which changes of dataset.yaml make stored volumes stale."""

from __future__ import annotations

import pytest

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.ingest.settings import scan_version, settings_version

BASE = {
    "collections": {
        "ct": {"match": {"modality": "CT"}},
        "mr": {"match": {"modality": "MR"}},
    }
}


def version(**changes: object) -> str:
    return settings_version(DatasetSettings.model_validate({**BASE, **changes}))


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": ["StudyDate"]},
        {"subjects": {"key": "study"}},
        {"subjects": {"file_name": "(?P<subject>[a-z]+)"}},
        {"imaging": {"components": "keep"}},
        {"collections": {"ct": {"match": {"modality": ["CT", "PT"]}}, "mr": {"match": {"modality": "MR"}}}},
        {"collections": dict(reversed(BASE["collections"].items()))},
        {"collections": {"ct": {"match": {"modality": "CT"}}}},
    ],
)
def test_what_decides_on_rows_and_places_makes_another_version(change: dict[str, object]) -> None:
    assert version(**change) != version()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other", "owners": ["team:imaging"], "landing": "in", "store": "s3://bucket/store"},
        {"split": {"seed": 9}, "patches": {"image": "ct"}},
        {"arrivals": {"quiet_period_s": 1}},
        {"subjects": {"secret_env": "ANOTHER_NAME"}},
        {"attributes": [], "imaging": {"components": "quarantine"}},
        {
            "collections": {
                "ct": {"match": {"modality": "CT"}, "tile": "axial", "description": "all of them"},
                "mr": {"match": {"modality": "MR"}},
            }
        },
    ],
)
def test_what_does_not_touch_stored_images_leaves_the_version(change: dict[str, object]) -> None:
    assert version(**change) == version()


def test_the_scan_depends_on_the_allow_list_and_not_on_collections() -> None:
    one, other = DatasetSettings(), DatasetSettings.model_validate(BASE)
    assert scan_version(one) == scan_version(other)
    assert scan_version(one) != scan_version(DatasetSettings(attributes=["StudyDate"]))
