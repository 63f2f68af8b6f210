"""When the assets after the arrivals are made again.

Arrivals are requested by the sensor. What follows them (`dataset`, `splits`, `patch_cache`) is requested by
one condition: an input is newer than the last attempt. It keeps no cursor, so nothing is lost between two
ticks. A failed attempt is not repeated until an input changes; one that was killed is.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import dagster as dg
from dagster import AutomationContext, AutomationResult

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.arrivals.runs import why_it_ended
from radiobject_assets.platform.assets.snapshot import LONGEST_WAIT_S
from radiobject_assets.platform.assets.splits import BY_HAND_METADATA
from radiobject_assets.platform.dagster_internals import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
)
from radiobject_assets.training.recipe_versions import (
    by_hand_changed_s,
    by_hand_version,
    patches_version,
    split_version,
)

_CODE_TAG = "radiobject/code"

_AT_ONCE_AGAIN = 3
_PAUSE_S = 1500.0


@dataclass(frozen=True)
class _Latest:
    """The latest materialization of an input, whichever partition it was of."""

    storage_id: int
    data_version: str | None


class InputsChanged(dg.AutomationCondition[dg.AssetKey]):
    """True while an input was materialized after the last attempt to make the target.

    Dagster's own `eager()` forgets an update that falls between the same two ticks as the target's
    materialization (dagster#24650), so a data set could stay behind until the next arrival. Comparing
    storage ids has no such gap: whatever was recorded after the attempt was planned is news.

    - The attempt counts, not its success: a run that failed is not started again every tick. One that was
      killed, or whose storage gave no answer, is no attempt; after three of them in a row there is a pause.
    - Of partitioned inputs one partition is enough: a failed arrival does not hold the others back.
    - Unpartitioned inputs must all exist, and news of an unchanged data version is no news.
    - Another code version of the target (which follows the settings that it uses) is news as well, until an
      attempt was made by it.
    """

    @property
    def name(self) -> str:
        return "inputs_changed_since_last_attempt"

    def evaluate(self, context: AutomationContext[dg.AssetKey]) -> AutomationResult[dg.AssetKey]:
        """The part of the candidates whose inputs are newer than their last attempt."""
        key = context.key
        graph = context.asset_graph
        parents = sorted(graph.get(key).parent_keys)
        instance = context.asset_graph_view.instance
        latest = _latest_materializations(instance, parents)
        whole = [parent for parent in parents if not graph.get(parent).is_partitioned]
        if not latest or any(parent not in latest for parent in whole):
            return AutomationResult(context, context.get_empty_subset())
        candidates = context.candidate_subset
        if context.partitions_def is None:
            behind = _is_behind(instance, key, None, latest, whole, graph.get(key).code_version)
            return AutomationResult(context, candidates if behind else context.get_empty_subset())
        behind_keys = {
            partition
            for partition in candidates.expensively_compute_partition_keys()
            if _is_behind(instance, key, partition, latest, whole, graph.get(key).code_version)
        }
        return AutomationResult(context, candidates.compute_intersection_with_partition_keys(behind_keys))


class ByHandChanged(dg.AutomationCondition[dg.AssetKey]):
    """True while the table of `split.by_hand` says something else than the last attempt to divide read.

    It is read at each evaluation: it may change while the code server runs, which reads dataset.yaml once.
    """

    def __init__(self, settings: DatasetSettings) -> None:
        self._settings = settings

    @property
    def name(self) -> str:
        return "division_by_hand_changed_since_last_attempt"

    def evaluate(self, context: AutomationContext[dg.AssetKey]) -> AutomationResult[dg.AssetKey]:
        """All of the candidates, or none."""
        return _all_if(context, self._is_news(context.asset_graph_view.instance, context.key))

    def _is_news(self, instance: dg.DagsterInstance, key: dg.AssetKey) -> bool:
        attempt = instance.get_latest_planned_materialization_info(key, None)
        made = instance.get_latest_materialization_event(key)
        if attempt is None:
            return False  # the first division waits for its inputs alone
        told = made.asset_materialization.metadata if made and made.asset_materialization else {}
        read = told[BY_HAND_METADATA].value if BY_HAND_METADATA in told else ""
        if read == by_hand_version(self._settings):
            return False
        if made is not None and made.run_id == attempt.run_id:
            return True
        # one that failed tells nothing: by another content than it found it is worth another try
        run = instance.get_run_record_by_id(attempt.run_id)
        return run is None or by_hand_changed_s(self._settings) > run.create_timestamp.timestamp()


AT_ONCE: ContextVar[bool] = ContextVar("AT_ONCE", default=False)
"""Set where nothing more will come, so that nobody need wait for it: in a pass without a daemon."""


class InputsQuiet(dg.AutomationCondition[dg.AssetKey]):
    """True when no input was materialized for so many seconds."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s

    @property
    def name(self) -> str:
        return f"inputs_are_quiet_for_{self._quiet_s:g}_s"

    def evaluate(self, context: AutomationContext[dg.AssetKey]) -> AutomationResult[dg.AssetKey]:
        """All of the candidates, or none."""
        return _all_if(context, AT_ONCE.get() or is_quiet(_news_s(context), time.time(), self._quiet_s))


class InputsOverdue(dg.AutomationCondition[dg.AssetKey]):
    """True when the first input that is news has waited too long."""

    @property
    def name(self) -> str:
        return "inputs_waited_too_long"

    def evaluate(self, context: AutomationContext[dg.AssetKey]) -> AutomationResult[dg.AssetKey]:
        """All of the candidates, or none."""
        return _all_if(context, is_overdue(_news_s(context), time.time()))


def _all_if(context: AutomationContext[dg.AssetKey], is_true: bool) -> AutomationResult[dg.AssetKey]:
    return AutomationResult(context, context.candidate_subset if is_true else context.get_empty_subset())


def is_quiet(news_s: Sequence[float], now_s: float, quiet_s: float) -> bool:
    """Whether no more news came for a while after those of these times, in seconds since the epoch.

    A clock that was put back makes nobody wait.
    """
    return not news_s or not 0 <= now_s - max(news_s) < quiet_s


def is_overdue(news_s: Sequence[float], now_s: float) -> bool:
    """Whether the first of these news has waited too long."""
    return bool(news_s) and now_s - min(news_s) > LONGEST_WAIT_S


def _news_s(context: AutomationContext[dg.AssetKey]) -> list[float]:
    """When the first and the last materialization of each input since the last attempt were recorded."""
    instance = context.asset_graph_view.instance
    attempt = instance.get_latest_planned_materialization_info(context.key, None)
    found = []
    for parent in sorted(context.asset_graph.get(context.key).parent_keys):
        selection = dg.AssetRecordsFilter(
            asset_key=parent, after_storage_id=attempt.storage_id if attempt is not None else None
        )
        for ascending in (True, False):
            records = instance.fetch_materializations(selection, limit=1, ascending=ascending).records
            found += [record.timestamp for record in records]
    return found


def when_inputs_changed() -> dg.AutomationCondition[dg.AssetKey]:
    """Inputs changed, none of them is being made, and the blocking checks of unpartitioned inputs passed."""
    return (
        InputsChanged()
        & ~dg.AutomationCondition.in_progress()
        & ~dg.AutomationCondition.any_deps_in_progress()
    )


def when_division_changed(settings: DatasetSettings) -> dg.AutomationCondition[dg.AssetKey]:
    """As `when_inputs_changed`, or the table of `split.by_hand` did, where there is one."""
    news: dg.AutomationCondition[dg.AssetKey] = InputsChanged()
    if settings.split.by_hand is not None:
        news = news | ByHandChanged(settings)
    return news & ~dg.AutomationCondition.in_progress() & ~dg.AutomationCondition.any_deps_in_progress()


def when_arrivals_are_in(quiet_s: float) -> dg.AutomationCondition[dg.AssetKey]:
    """Arrivals were taken in, and for a while no more: one snapshot for many of them.

    A stream of arrivals that does not end is waited for no longer than `LONGEST_WAIT_S`.

    Parameters
    ----------
    quiet_s
        In how many seconds what came at the same time will have settled and have been seen.
    """
    return (
        InputsChanged()
        & ~dg.AutomationCondition.in_progress()
        & (InputsOverdue() | (InputsQuiet(quiet_s) & ~dg.AutomationCondition.any_deps_in_progress()))
    )


def when_checked_inputs_changed() -> dg.AutomationCondition[dg.AssetKey]:
    """As `when_inputs_changed`, and all blocking checks of the inputs passed.

    Only for inputs without partitions: over arrivals, one bad arrival would hold everything back.
    """
    return when_inputs_changed() & dg.AutomationCondition.all_deps_blocking_checks_passed()


def _latest_materializations(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]
) -> Mapping[dg.AssetKey, _Latest]:
    found = {}
    for record in instance.get_asset_records(list(keys)):
        last = record.asset_entry.last_materialization_record
        if last is not None:
            materialization = last.asset_materialization
            tags = (materialization.tags if materialization else None) or {}
            found[record.asset_entry.asset_key] = _Latest(last.storage_id, tags.get(DATA_VERSION_TAG))
    return found


def _is_behind(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    partition: str | None,
    latest: Mapping[dg.AssetKey, _Latest],
    whole: list[dg.AssetKey],
    code_version: str | None,
) -> bool:
    attempt = instance.get_latest_planned_materialization_info(key, partition)
    if (
        attempt is None
        or _was_made_by_another(instance, key, partition, attempt.run_id, code_version)
        or _was_disturbed(instance, key, partition)
    ):
        return True
    news = [parent for parent, last in latest.items() if last.storage_id > attempt.storage_id]
    if not news or any(parent not in whole for parent in news):
        return bool(news)
    made_from = _input_versions(instance, key, partition, whole)
    return any(latest[parent].data_version != made_from.get(parent) for parent in news)


def code_version_tags(settings: DatasetSettings) -> dict[str, str]:
    """Tags of a run that say by which code versions it attempts what follows the arrivals.

    A failed attempt leaves no other trace of it.
    """
    versions = {"splits": split_version(settings)}
    if settings.patches is not None:
        versions["patch_cache"] = patches_version(settings.patches)
    return {f"{_CODE_TAG}/{name}": version for name, version in versions.items()}


def _was_made_by_another(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    partition: str | None,
    attempt_run_id: str,
    code_version: str | None,
) -> bool:
    """Whether the latest attempt was made by another code version than today's."""
    selection = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(selection, limit=1).records
    made = records[0] if records else None
    # who asked comes first: a run reads dataset.yaml anew, and the code server's sensors do at a reload only
    run = instance.get_run_by_id(attempt_run_id)
    known = None if run is None else run.tags.get(f"{_CODE_TAG}/{key.path[-1]}")
    if known is None and made is not None and made.run_id == attempt_run_id and made.asset_materialization:
        known = (made.asset_materialization.tags or {}).get(CODE_VERSION_TAG)
    return known is not None and code_version is not None and known != code_version


def _was_disturbed(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> bool:
    """Whether the last attempt was ended from outside, and the next one is due."""
    selection = dg.EventRecordsFilter(
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        asset_key=key,
        asset_partitions=[partition] if partition else None,
    )
    with warnings.catch_warnings():
        # runs over several partitions are not found this way: the sensor asks for none
        warnings.filterwarnings("ignore", message="Asset materialization planned events with partitions")
        records = instance.get_event_records(selection, limit=_AT_ONCE_AGAIN)
    disturbed = []
    for record in records:
        run = instance.get_run_by_id(record.run_id)
        if run is None or run.status != dg.DagsterRunStatus.FAILURE:
            break
        if why_it_ended(instance, run)[1] not in ("killed", "machine"):
            break
        disturbed.append(record.timestamp)
    has_had_its_tries = len(disturbed) == _AT_ONCE_AGAIN
    return bool(disturbed) and not (has_had_its_tries and abs(time.time() - disturbed[0]) < _PAUSE_S)


def _input_versions(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, parents: Iterable[dg.AssetKey]
) -> Mapping[dg.AssetKey, str | None]:
    """Data versions that the target's latest materialization was made from."""
    selection = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(selection, limit=1).records
    if not records or records[0].asset_materialization is None:
        return {}
    tags = records[0].asset_materialization.tags or {}
    return {parent: tags.get(get_input_data_version_tag(parent)) for parent in parents}
