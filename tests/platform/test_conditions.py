"""When what follows the arrivals is made again: Dagster's real evaluation, on a real instance."""

# No postponed annotations: Dagster reads the types of `context` and of resources when it decorates.
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from radiobject_assets.platform.automation import conditions
from radiobject_assets.platform.automation.conditions import (
    is_overdue,
    is_quiet,
    when_arrivals_are_in,
    when_inputs_changed,
)

ARRIVALS = dg.DynamicPartitionsDefinition(name="arrivals")
FAILS: set[str] = set()
DURING: list[str] = []


@dg.asset(partitions_def=ARRIVALS)
def volumes(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    if context.partition_key in FAILS:
        raise dg.Failure("bad arrival")
    return dg.MaterializeResult()


@dg.asset(
    deps=[dg.AssetDep("volumes", partition_mapping=dg.AllPartitionMapping())],
    automation_condition=when_inputs_changed(),
)
def dataset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    if "dataset" in FAILS:
        raise dg.Failure("no snapshot")
    for key in DURING:
        context.instance.report_runless_asset_event(dg.AssetMaterialization("volumes", partition=key))
    return dg.MaterializeResult(data_version=dg.DataVersion("same"))


@dg.asset(deps=["dataset"], automation_condition=when_inputs_changed())
def splits() -> dg.MaterializeResult:
    return dg.MaterializeResult()


@pytest.fixture(autouse=True)
def _nothing_fails() -> Iterator[None]:
    yield
    FAILS.clear()
    DURING.clear()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


ASSETS = [volumes, dataset, splits]


def splits_of(code_version: str) -> list[dg.AssetsDefinition]:
    """The assets, with splits of another setting."""

    @dg.asset(
        name="splits", deps=["dataset"], code_version=code_version, automation_condition=when_inputs_changed()
    )
    def changed() -> dg.MaterializeResult:
        if "splits" in FAILS:
            raise dg.Failure("no splits")
        return dg.MaterializeResult()

    return [volumes, dataset, changed]


def wanted(instance: dg.DagsterInstance, assets: list[dg.AssetsDefinition] = ASSETS) -> set[str]:
    """What a fresh evaluation, without a cursor, asks for."""
    found = dg.evaluate_automation_conditions(assets, instance)
    return {a.key.to_user_string() for a in (dataset, splits) if found.get_num_requested(a.key)}


def arrive(instance: dg.DagsterInstance, key: str) -> None:
    instance.add_dynamic_partitions("arrivals", [key])
    dg.materialize(ASSETS, selection=[volumes], partition_key=key, instance=instance, raise_on_error=False)


def make(instance: dg.DagsterInstance, asset: dg.AssetsDefinition) -> None:
    dg.materialize(ASSETS, selection=[asset], instance=instance, raise_on_error=False)


def test_nothing_is_asked_for_before_the_first_arrival(instance: dg.DagsterInstance) -> None:
    assert wanted(instance) == set()


def test_an_arrival_asks_for_a_data_set_and_that_for_splits(instance: dg.DagsterInstance) -> None:
    arrive(instance, "a")
    assert wanted(instance) == {"dataset"}
    make(instance, dataset)
    assert wanted(instance) == {"splits"}
    make(instance, splits)
    assert wanted(instance) == set()


def test_a_failed_arrival_does_not_hold_the_others_back(instance: dg.DagsterInstance) -> None:
    FAILS.add("bad")
    arrive(instance, "bad")
    assert wanted(instance) == set()
    arrive(instance, "good")
    assert wanted(instance) == {"dataset"}


def test_a_failed_data_set_is_not_tried_again_until_something_arrives(instance: dg.DagsterInstance) -> None:
    FAILS.add("dataset")
    arrive(instance, "a")
    make(instance, dataset)
    assert wanted(instance) == set()
    arrive(instance, "b")
    assert wanted(instance) == {"dataset"}


def kill_a_run_of(instance: dg.DagsterInstance, asset: dg.AssetsDefinition) -> None:
    """As a machine leaves it that loses its power while the run is at work."""
    everything = dg.Definitions(assets=ASSETS).resolve_implicit_global_asset_job_def()
    job = everything.get_subset(asset_selection={asset.key})
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run)


def test_a_data_set_whose_run_was_killed_is_asked_for_again_a_few_times(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(instance, "a")
    for _ in range(2):
        kill_a_run_of(instance, dataset)
        assert wanted(instance) == {"dataset"}
    kill_a_run_of(instance, dataset)
    assert wanted(instance) == set()
    later = time.time() + 3600
    monkeypatch.setattr("time.time", lambda: later)
    assert wanted(instance) == {"dataset"}


def test_an_arrival_during_a_snapshot_is_not_lost(instance: dg.DagsterInstance) -> None:
    arrive(instance, "a")
    DURING.append("b")
    make(instance, dataset)
    DURING.clear()
    assert "dataset" in wanted(instance)


def test_an_unchanged_data_set_asks_for_no_new_splits(instance: dg.DagsterInstance) -> None:
    arrive(instance, "a")
    make(instance, dataset)
    make(instance, splits)
    arrive(instance, "b")
    make(instance, dataset)  # the same data version again
    assert wanted(instance) == set()


def test_another_setting_asks_for_what_uses_it_once(instance: dg.DagsterInstance) -> None:
    arrive(instance, "a")
    make(instance, dataset)
    one, other = splits_of("1-one"), splits_of("1-other")
    dg.materialize(one, selection=[one[2]], instance=instance)
    assert wanted(instance, one) == set()
    assert wanted(instance, other) == {"splits"}
    dg.materialize(other, selection=[other[2]], instance=instance)
    assert wanted(instance, other) == set()


def test_an_attempt_that_failed_by_an_earlier_setting_is_made_again_and_by_the_same_not(
    instance: dg.DagsterInstance,
) -> None:
    arrive(instance, "a")
    make(instance, dataset)
    one, other = splits_of("1-one"), splits_of("1-other")
    FAILS.add("splits")
    tags = {"radiobject/code/splits": "1-one"}
    dg.materialize(one, selection=[one[2]], instance=instance, tags=tags, raise_on_error=False)
    assert wanted(instance, one) == set()
    assert wanted(instance, other) == {"splits"}


def test_ten_arrivals_of_one_minute_make_one_snapshot(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet_s = 3600.0

    @dg.asset(
        name="dataset",
        deps=[dg.AssetDep("volumes", partition_mapping=dg.AllPartitionMapping())],
        automation_condition=when_arrivals_are_in(quiet_s),
    )
    def snapshot() -> None: ...

    def is_wanted() -> bool:
        found = dg.evaluate_automation_conditions([volumes, snapshot], instance)
        return found.get_num_requested(snapshot.key) == 1

    for number in range(3):
        arrive(instance, f"a{number}")
        assert not is_wanted()
    now_s = time.time
    monkeypatch.setattr(conditions.time, "time", lambda: now_s() + quiet_s + 1)
    assert is_wanted()
    monkeypatch.undo()
    dg.materialize([volumes, snapshot], selection=[snapshot], instance=instance)
    assert not is_wanted()
    arrive(instance, "later")
    assert not is_wanted()
    token = conditions.AT_ONCE.set(True)  # nobody waits in a pass without a daemon
    assert is_wanted()
    conditions.AT_ONCE.reset(token)
    # and one that waited too long is made although others are being taken in
    monkeypatch.setattr(conditions, "LONGEST_WAIT_S", 0.0)
    assert is_wanted()


def test_news_is_waited_for_by_the_last_and_not_longer_than_the_first_may_wait() -> None:
    assert is_quiet([], 0.0, 90.0)
    assert not is_quiet([100.0, 160.0], 200.0, 90.0)
    assert is_quiet([100.0, 160.0], 251.0, 90.0)
    assert is_quiet([500.0], 100.0, 90.0)  # a clock that was put back
    assert not is_overdue([], 1e9)
    assert not is_overdue([0.0, 890.0], 900.0)
    assert is_overdue([0.0, 900.0], 901.0)
