"""What an event log says of an error: its own public text and advice, and no identifier."""

from __future__ import annotations

import pickle
from pathlib import Path

import dagster as dg
import pytest

from radiobject_assets import errors
from radiobject_assets.errors import (
    ConfigurationError,
    ImageReadError,
    IngestError,
    RadiObjectError,
    StorageError,
)
from radiobject_assets.platform.assets.privacy import shielded
from radiobject_assets.platform.checks.outcome import check_result

NAME = "Doe^Jane_19370911"
CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, RadiObjectError)]


def told(error: Exception, folder: Path) -> str:
    """What the event log gets."""
    with pytest.raises(dg.Failure) as caught, shielded(folder):
        raise error
    assert NAME in (folder / "last-error.txt").read_text()
    return str(caught.value.description)


@pytest.mark.parametrize(
    "kind", [one for one in CLASSES if not one.speaks_openly and one is not ImageReadError]
)
def test_each_class_has_a_text_of_its_own_that_names_nobody(
    kind: type[RadiObjectError], tmp_path: Path
) -> None:
    text = told(kind(f"/landing/{NAME}/ct.dcm: broken"), tmp_path)
    assert NAME not in text
    assert kind.public in text
    assert ".py:" not in text
    assert kind.public not in [other.public for other in CLASSES if other is not kind]


def test_who_raises_says_more_and_it_survives_a_process_boundary(tmp_path: Path) -> None:
    error = IngestError(f"{NAME}: gone", public="this arrival is gone", advice="Put it back.")
    assert told(pickle.loads(pickle.dumps(error)), tmp_path) == "this arrival is gone. Put it back."
    image = pickle.loads(pickle.dumps(ImageReadError("truncated", "ends early", Path(f"/x/{NAME}.dcm"))))
    assert "truncated" in told(image, tmp_path)


@pytest.mark.parametrize("kind", [StorageError, ConfigurationError])
def test_errors_of_storage_and_settings_speak_for_themselves(
    kind: type[RadiObjectError], tmp_path: Path
) -> None:
    with pytest.raises(dg.Failure) as caught, shielded(tmp_path):
        raise kind("s3://bucket/store: no answer; is the endpoint right?")
    assert caught.value.description == "s3://bucket/store: no answer; is the endpoint right?"


def test_an_error_that_nobody_knows_gets_no_advice_but_where_the_report_lies(tmp_path: Path) -> None:
    text = told(KeyError(NAME), tmp_path)
    assert "KeyError" in text
    assert str(tmp_path / "last-error.txt") in text
    assert "materialize" not in text.lower()


def test_an_error_inside_a_check_is_a_failed_check_with_the_advice_of_its_cause(tmp_path: Path) -> None:
    def rule() -> dg.AssetCheckResult:
        raise IngestError(f"{NAME}: gone", public="this arrival is gone", advice="Put it back.")

    result = check_result(rule, work=tmp_path)
    assert not result.passed
    assert result.description == "the check could not be done: this arrival is gone.\n\nPut it back."
