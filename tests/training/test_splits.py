"""What an assignment of subjects to splits promises."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from radiobject_assets.dataset.training_section import SplitConfig
from radiobject_assets.errors import AlignmentError, ConfigurationError
from radiobject_assets.training.split_assignment import assign_splits
from radiobject_assets.training.split_units import hash_fraction

CONFIG = SplitConfig()
subject_ids = st.lists(st.text(min_size=1, max_size=12), max_size=60, unique=True)
fractions = st.lists(st.integers(1, 20), min_size=1, max_size=5).map(
    lambda parts: {f"s{i}": part / sum(parts) for i, part in enumerate(parts)}
)


def as_dict(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["obs_subject_id"], table["split"], strict=True))


@given(subject_ids, st.randoms(use_true_random=False), fractions, st.integers())
def test_the_order_of_the_ids_does_not_matter(ids, random, shares, seed):
    config = SplitConfig(fractions=shares, seed=seed)
    shuffled = list(ids)
    random.shuffle(shuffled)
    assert assign_splits(ids, config).equals(assign_splits(shuffled + shuffled[:3], config))


@given(subject_ids, subject_ids, fractions)
def test_adding_subjects_moves_nobody(first, more, shares):
    config = SplitConfig(fractions=shares)
    before = assign_splits(first, config)
    after = as_dict(assign_splits([*first, *more], config, previous=before))
    assert set(after) == {*first, *more}
    assert {subject: after[subject] for subject in first} == as_dict(before)


@given(subject_ids, subject_ids, fractions)
def test_no_split_stays_empty_while_there_are_new_subjects_for_it(first, more, shares):
    config = SplitConfig(fractions=shares)
    before = assign_splits(first, config)
    ids = {*first, *more}
    after = assign_splits(ids, config, previous=before)
    empty_before = len(shares) - before["split"].nunique()
    n_new = len(ids) - len(first)
    assert after["split"].nunique() == len(shares) - max(0, empty_before - n_new)


def test_eight_subjects_are_cut_six_one_one():
    for seed in range(20):
        counts = assign_splits([f"sub-{i}" for i in range(8)], SplitConfig(seed=seed))["split"].value_counts()
        assert counts.to_dict() == {"train": 6, "validation": 1, "test": 1}


def test_a_large_cohort_needs_no_previous_table():
    many = [f"sub-{i}" for i in range(3000)]
    half = as_dict(assign_splits(many[::2], CONFIG))
    whole = as_dict(assign_splits(many, CONFIG))
    assert {subject: whole[subject] for subject in half} == half
    shares = pd.Series(whole).value_counts(normalize=True)
    for name, fraction in CONFIG.fractions.items():
        assert shares[name] == pytest.approx(fraction, abs=0.03)


def test_the_seed_changes_who_is_tested():
    ids = [f"sub-{i}" for i in range(500)]
    assert as_dict(assign_splits(ids, SplitConfig(seed=1))) != as_dict(
        assign_splits(ids, SplitConfig(seed=2))
    )


def test_the_hash_is_the_same_on_every_machine():
    assert hash_fraction(7, "sub-1") == pytest.approx(0.7797401798835147, abs=0)
    assert hash_fraction(7, "患者-1") == pytest.approx(0.3070283119093338, abs=0)


def test_a_previous_subject_in_two_splits_is_refused():
    previous = pd.DataFrame({"obs_subject_id": ["a", "a"], "split": ["train", "test"]})
    with pytest.raises(AlignmentError, match="1 subjects in more than one split"):
        assign_splits(["a"], CONFIG, previous)


def test_a_previous_split_that_is_gone_is_named():
    previous = pd.DataFrame({"obs_subject_id": ["a"], "split": ["holdout"]})
    with pytest.raises(ConfigurationError, match=r"holdout.*train, validation, test"):
        assign_splits(["a"], CONFIG, previous)


def test_no_subjects_give_an_empty_table():
    assert list(assign_splits([], CONFIG).columns) == ["obs_subject_id", "split"]
    assert assign_splits([], CONFIG).empty


@pytest.mark.parametrize(
    "more", [{"group_by": ["family"]}, {"stratify_by": "sex"}, {"by_hand": "splits.tsv"}], ids=str
)
def test_what_ids_alone_can_not_give_is_refused_instead_of_ignored(more: dict[str, object]) -> None:
    config = SplitConfig.model_validate(more)
    with pytest.raises(ConfigurationError, match=f"split.{next(iter(more))}.*assigned_split"):
        assign_splits(["a", "b"], config)
