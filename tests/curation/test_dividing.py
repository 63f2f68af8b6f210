"""A snapshot's subjects divided, and what the store remembers of it."""

from __future__ import annotations

import pytest
from delivery import Delivery

from radiobject_assets.curation.divided_snapshot import DividedSnapshot, divide_snapshot
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import RadiObject, create_snapshot, delete_subjects, list_snapshots


def settings_with(delivered: Delivery, text: str) -> DatasetSettings:
    base = delivered.dataset.read_text(encoding="utf-8").partition("\nsplit:")[0].rstrip()
    delivered.dataset.write_text(f"{base}\nsplit: {text}\n", encoding="utf-8")
    return delivered.settings


def splits_of(divided: DividedSnapshot) -> dict[str, str]:
    return dict(zip(divided.kept["obs_subject_id"], divided.kept["split"], strict=True))


def test_the_store_remembers_a_division_until_another_is_asked_for(delivered: Delivery) -> None:
    settings = settings_with(delivered, "{division: 2, fractions: {train: 0.5, test: 0.5}}")
    first = divide_snapshot(settings, "first", known=None)
    assert set(first.firm.values()) == {"train", "test"}  # those of division 1 had three names
    lost = divide_snapshot(settings, "first", known=None)
    assert splits_of(lost) == splits_of(first)
    with pytest.raises(ConfigurationError, match=r"raise split.division"):
        divide_snapshot(
            settings_with(delivered, "{division: 2, fractions: {a: 0.5, b: 0.5}}"), "first", known=None
        )
    anew = divide_snapshot(
        settings_with(delivered, "{division: 3, fractions: {a: 0.5, b: 0.5}}"), "first", known=first.kept
    )
    assert set(anew.firm.values()) == {"a", "b"}


def test_a_division_changes_no_snapshots_digest(delivered: Delivery) -> None:
    settings = settings_with(delivered, "{division: 2, seed: 3}")
    divide_snapshot(settings, "first", known=None)
    made = create_snapshot(delivered.uri, "second")
    assert made.digest == list_snapshots(delivered.uri)[0].digest


def test_whoever_was_erased_meanwhile_does_not_come_back_by_a_division(delivered: Delivery) -> None:
    settings = settings_with(delivered, "{division: 2}")
    first = divide_snapshot(settings, "first", known=None)
    erased = next(iter(first.firm))
    delete_subjects(delivered.uri, [erased])
    divide_snapshot(settings, "first", known=first.kept)
    assert erased not in RadiObject(delivered.uri).obs_subject_ids


def test_a_division_by_hand_is_read_beside_dataset_yaml(delivered: Delivery) -> None:
    ids = RadiObject(delivered.uri).obs_subject_ids
    hand = delivered.dataset.with_name("hand.csv")
    hand.write_text("subject,split\n" + "".join(f"{name},test\n" for name in ids), encoding="utf-8")
    settings = settings_with(delivered, "{division: 2, by_hand: hand.csv}")
    divided = divide_snapshot(settings, "first", known=None)
    assert set(splits_of(divided).values()) == {"test"}
    assert divided.division.empty == ("train", "validation")
