"""Groups, strata, divisions by hand, and what training can use: what a division promises."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from radiobject_assets.dataset.training_section import PatchesConfig, SplitConfig
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.training.split_assignment import (
    Division,
    SubjectFacts,
    divide_subjects,
    subject_token,
)
from radiobject_assets.training.split_by_hand import read_division_by_hand
from radiobject_assets.training.split_facts import subject_facts, trainable_subjects
from radiobject_assets.training.split_leakage import find_leakage

CONFIG = SplitConfig()
CV = SplitConfig(folds=5)


def splits_of(division: Division) -> dict[str, str]:
    return dict(zip(division.table["obs_subject_id"], division.table["split"], strict=True))


@st.composite
def cohorts(draw: st.DrawFn) -> dict[str, SubjectFacts]:
    names = draw(st.lists(st.text(min_size=1, max_size=8), max_size=40, unique=True))
    families = st.integers(0, 12).map(lambda n: (f"family={n}",) if n < 9 else ())
    return {
        name: SubjectFacts(draw(st.booleans()), draw(families), draw(st.sampled_from(["", "a", "b"])))
        for name in names
    }


@given(cohorts(), st.sampled_from([CONFIG, CV, SplitConfig(folds=3, hold_out=0.2)]), st.randoms())
def test_a_group_is_in_one_split_whatever_the_order(cohort, config, random):
    names = list(cohort)
    random.shuffle(names)
    division = divide_subjects({name: cohort[name] for name in names}, config)
    assert division.table.equals(divide_subjects(cohort, config).table)
    split = splits_of(division)
    by_group: dict[str, set[str]] = {}
    for name, facts in cohort.items():
        for group in facts.groups:
            by_group.setdefault(group, set()).add(split[name])
    assert all(len(found) == 1 for found in by_group.values())
    leaks = find_leakage(
        division.table,
        pd.DataFrame({"obs_subject_id": list(cohort)}, dtype="str"),
        {n: f.groups for n, f in cohort.items()},
    )
    assert leaks.empty


@given(cohorts(), cohorts(), st.sets(st.integers(0, 39)))
def test_growth_and_removal_move_nobody_whom_training_used(first, more, removed):
    before = divide_subjects(first, CONFIG)
    kept = {name: facts for i, (name, facts) in enumerate(first.items()) if i not in removed}
    new = {name: facts for name, facts in more.items() if name not in first}
    after = divide_subjects(kept | new, CONFIG, before.table)
    was, now = splits_of(before), splits_of(after)
    firm = set(before.table.loc[before.table["is_firm"], "obs_subject_id"])
    assert all(now[name] == was[name] for name in kept if name in firm)
    assert after.moved_by_hand == 0
    # and who was taken out comes back to the same side
    everybody = pd.concat(
        [after.table, before.table[~before.table["obs_subject_id"].isin(after.table["obs_subject_id"])]]
    )
    again = splits_of(divide_subjects(first | new, CONFIG, everybody))
    assert all(again[name] == was[name] for name in firm)


@given(cohorts())
def test_each_split_has_subjects_that_training_can_use_while_there_are_enough(cohort):
    division = divide_subjects(cohort, CONFIG)
    assert len(division.empty) == max(0, 3 - division.trainable_units)


def test_the_three_subjects_with_labels_of_27_are_one_in_each_split() -> None:
    for seed in range(30):
        cohort = {f"sub-{n}": SubjectFacts(is_trainable=n < 3) for n in range(27)}
        split = splits_of(divide_subjects(cohort, SplitConfig(seed=seed)))
        assert {split[f"sub-{n}"] for n in range(3)} == {"train", "validation", "test"}
        assert set(Counter(split.values())) == {"train", "validation", "test"}


def test_labels_that_come_later_are_divided_by_their_own_shares() -> None:
    images = {f"sub-{n}": SubjectFacts(is_trainable=False) for n in range(200)}
    before = divide_subjects(images, CONFIG)
    labelled = images | {f"sub-{n}": SubjectFacts() for n in range(20)}
    after = divide_subjects(labelled, CONFIG, before.table)
    split, was = splits_of(after), splits_of(before)
    assert Counter(split[f"sub-{n}"] for n in range(20)) == {"train": 14, "validation": 3, "test": 3}
    assert all(split[f"sub-{n}"] == was[f"sub-{n}"] for n in range(20, 200))
    assert after.moved_when_usable == sum(split[name] != was[name] for name in images)
    # now that they are trained on, they stay, whatever comes
    more = labelled | {f"sub-{n}": SubjectFacts() for n in range(20, 60)}
    later = splits_of(divide_subjects(more, CONFIG, after.table))
    assert all(later[f"sub-{n}"] == split[f"sub-{n}"] for n in range(20))


def test_two_families_that_turn_out_to_be_one_are_an_error_that_names_tokens_only() -> None:
    cohort = {f"Mueller-{n}": SubjectFacts(groups=(f"family={n}",)) for n in range(30)}
    before = divide_subjects(cohort, CONFIG)
    split = splits_of(before)
    other = next(name for name in split if split[name] != split["Mueller-0"])
    married = cohort | {other: SubjectFacts(groups=(*cohort[other].groups, "family=0"))}
    with pytest.raises(ConfigurationError, match="belong together") as error:
        divide_subjects(married, CONFIG, before.table)
    assert "Mueller" not in str(error.value)
    assert subject_token(other) in str(error.value)
    ruled = {"Mueller-0": "test", other: "test"}
    mended = divide_subjects(married, CONFIG, before.table, by_hand=ruled)
    assert {splits_of(mended)[name] for name in ruled} == {"test"}
    assert mended.moved_by_hand >= 1


def test_a_family_whose_first_member_left_keeps_its_side() -> None:
    for seed in range(20):
        config = SplitConfig(seed=seed)
        before = divide_subjects({f"s{n}": SubjectFacts(groups=(f"family={n}",)) for n in range(12)}, config)
        now = divide_subjects({"sibling": SubjectFacts(groups=("family=3",))}, config, before.table)
        assert splits_of(now)["sibling"] == splits_of(before)["s3"]


def test_what_is_written_by_hand_is_law_for_the_whole_group_and_for_those_who_were_placed() -> None:
    cohort = {f"s{n}": SubjectFacts(groups=(f"site={n % 6}",)) for n in range(24)}
    before = divide_subjects(cohort, CONFIG)
    away = next(name for name in ("train", "test") if name != splits_of(before)["s1"])
    division = divide_subjects(cohort, CONFIG, before.table, by_hand={"s1": away, "not here yet": "train"})
    assert {splits_of(division)[f"s{n}"] for n in (1, 7, 13, 19)} == {away}
    assert division.moved_by_hand == 4
    with pytest.raises(ConfigurationError, match="belong together"):
        divide_subjects(cohort, CONFIG, by_hand={"s1": "train", "s7": "test"})


@pytest.mark.parametrize("text", ["subject,split\na,test\nb,\n", "participant_id\tfold\na\ttest\n"])
def test_a_table_by_hand_may_be_csv_or_tsv(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hand.csv"
    path.write_text(text, encoding="utf-8-sig")
    assert read_division_by_hand(path, ["train", "test"]) == {"a": "test"}


def test_folds_by_hand_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "hand.tsv"
    path.write_text("subject;fold\na;0\nb;4\nc;test\n", encoding="utf-8")
    config = SplitConfig(folds=5, hold_out=0.2)
    assert read_division_by_hand(path, config.shares) == {"a": "fold_0", "b": "fold_4", "c": "test"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subject,split\nmeier,tset\n", "line 2: no such split; use train, test"),
        ("subject,split\nmeier,test\nmeier,train\n", "line 3: this subject has another split above"),
        ("name,split\nmeier,test\n", "needs a column `subject`"),
        ("subject,split\n,test\n", "line 2: a split without a subject"),
    ],
)
def test_a_mistake_in_a_table_by_hand_is_told_without_a_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "hand.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=told) as error:
        read_division_by_hand(path, ["train", "test"])
    assert "meier" not in str(error.value)


def test_strata_are_divided_by_their_own_shares() -> None:
    cohort = {f"s{n}": SubjectFacts(stratum="ill" if n % 5 == 0 else "well") for n in range(100)}
    split = splits_of(divide_subjects(cohort, CONFIG))
    for stratum, expected in (("ill", (14, 3, 3)), ("well", (56, 12, 12))):
        counts = Counter(split[name] for name in cohort if cohort[name].stratum == stratum)
        assert [counts[name] for name in CONFIG.shares] == pytest.approx(expected, abs=1)


def test_a_column_in_which_everybody_differs_leaves_no_split_empty() -> None:
    cohort = {f"s{n}": SubjectFacts(stratum=str(n)) for n in range(60)}
    counts = Counter(splits_of(divide_subjects(cohort, CONFIG)).values())
    assert [counts[name] for name in CONFIG.shares] == pytest.approx((42, 9, 9), abs=1)


def _imbalance(folds: list[int], strata: list[str]) -> float:
    """Chi-square of subjects by stratum and fold against equal folds, one for each cell."""
    table = pd.crosstab(pd.Series(strata), pd.Series(folds)).reindex(columns=range(5), fill_value=0)
    expected = table.sum(axis=1).to_numpy()[:, None] / 5
    return float((((table - expected) ** 2) / expected).to_numpy().mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_folds_are_as_even_as_those_of_scikit_learn(seed: int) -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 6, 30)
    family = np.repeat(np.arange(30), sizes)
    strata = random.choice(["a", "b", "c"], len(family), p=[0.6, 0.3, 0.1])
    names = [f"s{n}" for n in range(len(family))]
    cohort = {
        name: SubjectFacts(groups=(f"family={f}",), stratum=str(s))
        for name, f, s in zip(names, family, strata, strict=True)
    }
    split = splits_of(divide_subjects(cohort, CV))
    ours = _imbalance([int(split[name][-1]) for name in names], list(strata))
    theirs = np.empty(len(family), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a stratum may have fewer subjects than there are folds
        folds = model_selection.StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for number, (_, test) in enumerate(folds.split(names, strata, family)):
            theirs[test] = number
    other = _imbalance(list(theirs), list(strata))
    assert ours <= other + 0.15  # on average 0.08 against 0.11


def test_only_subjects_with_the_image_and_its_labels_can_be_trained_on() -> None:
    grid = {
        "ndim": 3, "size_x": 4, "size_y": 4, "size_z": 4, "size_t": 1, "dtype": "int16", "slope": 1.0,
        "intercept": 0.0, **{f"affine_{i}{j}": float(i == j) for i in range(3) for j in range(4)},
    }  # fmt: skip
    rows = pd.DataFrame(
        [
            {**grid, "collection": "ct", "obs_id": "a-ct", "obs_subject_id": "a"},
            {**grid, "collection": "ct", "obs_id": "b-ct", "obs_subject_id": "b"},
            {**grid, "collection": "seg", "obs_id": "b-seg", "obs_subject_id": "b", "labels_of": "b-ct"},
            {**grid, "collection": "t1w", "obs_id": "c-t1", "obs_subject_id": "c"},
        ]
    )
    assert trainable_subjects(rows, PatchesConfig(image="ct", labels="seg")) == {"b"}
    assert trainable_subjects(rows, PatchesConfig(image="ct")) == {"a", "b"}
    assert trainable_subjects(rows, None) == {"a", "b", "c"}


def test_groups_and_strata_are_found_in_either_table() -> None:
    subjects = pd.DataFrame(
        {"obs_subject_id": ["a", "b", "c"], "family": [1, 1, None], "sex": ["F", "M", None]}
    )
    volumes = pd.DataFrame({"obs_subject_id": ["a", "c", "c"], "site": ["x", "x", "y"]})
    config = SplitConfig(group_by=["family", "site"], stratify_by="sex")
    found = subject_facts(["a", "b", "c"], config, subjects, volumes, {"a"})
    assert found["a"] == SubjectFacts(True, ("family=1.0", "site=x"), "F")
    assert found["c"] == SubjectFacts(False, ("site=x", "site=y"), "")
    with pytest.raises(ConfigurationError, match=r"no.* column 'ward'.*family"):
        subject_facts(["a"], SplitConfig(group_by=["ward"]), subjects, volumes, set())


def test_folds_and_fractions_exclude_each_other() -> None:
    assert SplitConfig(folds=4, hold_out=0.2).shares == pytest.approx(
        {"fold_0": 0.2, "fold_1": 0.2, "fold_2": 0.2, "fold_3": 0.2, "test": 0.2}
    )
    with pytest.raises(ValueError, match="not both"):
        SplitConfig(folds=4, fractions={"train": 1.0})
    with pytest.raises(ValueError, match="goes with `folds`"):
        SplitConfig(hold_out=0.2)


def test_a_group_over_two_splits_is_a_leak() -> None:
    splits = pd.DataFrame({"obs_subject_id": ["a", "b", "c"], "split": ["train", "test", "test"]})
    obs = pd.DataFrame({"obs_subject_id": ["a", "b", "c"]})
    (found,) = find_leakage(splits, obs, {"a": ["family=1"], "b": ["family=1"]}).itertuples(index=False)
    assert found == ("shared_group", "family=1", ("test", "train"), ("a", "b"))
