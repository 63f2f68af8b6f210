"""Of very many arrivals that passed a check, Dagster lists the newest; what did not pass stays."""

from __future__ import annotations

import dagster as dg

from radiobject_assets.platform.automation.passed_checks import unlist_passed

CHECK = dg.AssetCheckKey(dg.AssetKey("ct"), "integrity")
FAILED, PASSED, PLANNED = "FAILED", "SUCCEEDED", "PLANNED"
ARRIVALS = dg.DynamicPartitionsDefinition(name="arrivals")


def say(instance: dg.DagsterInstance, partition: str | None, passed: bool, check: str = CHECK.name) -> None:
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=CHECK.asset_key, check_name=check, passed=passed, partition=partition, metadata={}
        )
    )


def run(instance: dg.DagsterInstance, partition: str, passed: bool) -> dict[str | None, str]:
    """Take an arrival in and check it; returns what was listed while it was checked."""
    meanwhile: dict[str | None, str] = {}

    @dg.asset(partitions_def=ARRIVALS)
    def ct() -> None: ...

    @dg.asset_check(asset=ct, partitions_def=ARRIVALS)
    def integrity() -> dg.AssetCheckResult:
        unlist_passed(instance, [CHECK], listed=0, more=0)
        meanwhile.update(listed(instance))
        return dg.AssetCheckResult(passed=passed)

    instance.add_dynamic_partitions("arrivals", [partition])
    assert dg.materialize([ct, integrity], instance=instance, partition_key=partition).success
    return meanwhile


def listed(instance: dg.DagsterInstance, check: str = CHECK.name) -> dict[str | None, str]:
    """What the web server is told of each partition."""
    key = dg.AssetCheckKey(CHECK.asset_key, check)
    return {
        state.partition_key: state.latest_execution_status.value
        for state in instance.event_log_storage.get_asset_check_partition_info([key])
    }


def evaluations(instance: dg.DagsterInstance) -> int:
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    return len(instance.get_event_records(dg.EventRecordsFilter(kind)))


def test_the_newest_that_passed_are_listed_and_all_that_did_not() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        say(instance, None, True)  # of all arrivals together
        say(instance, "bad", False)
        for number in range(6):
            say(instance, f"good-{number}", True)
        say(instance, "good-0", True, "another")

        assert unlist_passed(instance, [CHECK], listed=2, more=4) == 0  # so many may wait for more
        assert len(listed(instance)) == 8
        assert unlist_passed(instance, [CHECK], listed=2, more=3) == 4
        assert listed(instance) == {None: PASSED, "bad": FAILED, "good-4": PASSED, "good-5": PASSED}
        assert listed(instance, "another") == {"good-0": PASSED}
        assert evaluations(instance) == 9  # Dagster's history has every one


def test_the_last_word_on_an_arrival_counts_and_one_that_is_being_checked_stays() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        say(instance, "mended", False)
        say(instance, "worse", True)
        assert run(instance, "worse", False)["worse"] == PLANNED
        assert run(instance, "mended", True) == {"mended": PLANNED, "worse": FAILED}
        assert listed(instance) == {"mended": PASSED, "worse": FAILED}
        # what was red once is not red again when the record of its success goes
        assert unlist_passed(instance, [CHECK], listed=0, more=0) == 1
        assert listed(instance) == {"worse": FAILED}
        assert evaluations(instance) == 4
