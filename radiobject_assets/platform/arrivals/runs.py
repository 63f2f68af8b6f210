"""What Dagster's records tell of the runs of a data set: which live, which are dead, and how others ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import dagster as dg

from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow, ErrorKind
from radiobject_assets.platform.arrivals.reconciling import BY_HAND, EndedRun, LivingRun, stopped_hearts
from radiobject_assets.platform.arrivals.shared_runs import partition_of
from radiobject_assets.platform.dagster_internals import DATA_VERSION_TAG
from radiobject_assets.platform.memory_pool import free_places_of_ended_runs
from radiobject_assets.resources import HEART_TAG, Heartbeat

ARRIVALS_TAG = "radiobject/arrivals"
"""Keys of the arrivals of its partition that a run was asked to work on; without it: all of them."""
DATA_SET_TAG = "radiobject/data_set"
REQUEST_TAG = "radiobject/request"
SETTINGS_METADATA = "settings_version"
"""Metadata of `raw_dicom`: what dataset.yaml said of images when the run took an arrival in."""
VERSIONS_METADATA = "arrivals"
"""Metadata of `raw_dicom` where several share a partition: the version of each that was taken in."""
FAILED_METADATA = "failed_arrivals"
"""Metadata of a failure: which of several arrivals failed, each with its text and its fault."""
FAULT_METADATA = "fault"
"""Metadata of a failure: `machine` where another try of the same may well succeed."""

_PARTITION_TAG = "dagster/partition"
_INTERRUPTED = "DagsterExecutionInterruptedError"
_WAITING = (dg.DagsterRunStatus.QUEUED,)
_RUNNING = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_KILLED = "its process was ended from outside before it finished"
_AT_ONCE = 200


@dataclass(frozen=True)
class _End:
    """How a run ended, for whatever arrivals it worked on."""

    run_id: str
    asked: str
    fate: Literal["success", "failure", "killed", "canceled"] = "success"
    achieved: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    error_kind: ErrorKind = ""
    place: str = ""
    faults: Mapping[str, tuple[str, ErrorKind]] = field(default_factory=dict)
    """Of a failure by some of its arrivals: theirs."""

    def of(self, key: str, n_arrivals: int) -> EndedRun:
        """What it was for one of its arrivals."""
        end = EndedRun(
            key,
            self.run_id,
            self.fate,
            self.asked,
            self.achieved.get(key, self.achieved.get("", "")),
            self.error,
            self.error_kind,
            self.place,
            n_arrivals,
        )
        if not self.faults:
            return end
        if key not in self.faults:
            return replace(end, fate="others", error="", error_kind="")
        error, kind = self.faults[key]
        return replace(end, error=error, error_kind=kind, suspects=1)


@dataclass(frozen=True)
class RunsOfDataSet:
    """The runs of one data set on a Dagster instance that others may share."""

    instance: dg.DagsterInstance
    data_set: str
    arrival_job: str
    raw_dicom: dg.AssetKey
    arrival_keys: frozenset[dg.AssetKey]
    """Assets that an arrival must be made into."""
    keys: frozenset[dg.AssetKey]
    """All assets."""

    def end_dead(
        self, before: Mapping[str, tuple[str, float]], *, elapsed_s: float, silence_s: float
    ) -> tuple[dict[str, tuple[str, float]], int]:
        """End the runs whose process has died; see `stopped_hearts`.

        Returns
        -------
        The silences for the next call, and how many were ended.
        """
        running = {run.run_id: run for run in self._runs(_RUNNING)}
        signs = {run_id: run.tags.get(HEART_TAG) for run_id, run in running.items()}
        silences, dead = stopped_hearts(signs, before, elapsed_s=elapsed_s, silence_s=silence_s)
        gone = [run for run, sign in signs.items() if sign and (b := Heartbeat.parse(sign)) and b.has_died]
        ended = 0
        for run_id in {*dead, *gone}:
            run = self.instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                continue
            if run.status == dg.DagsterRunStatus.CANCELING:
                self.instance.report_run_canceled(run, message=f"Canceled: {_KILLED}.")
            else:
                self.instance.report_run_failed(run, message=f"Failed: {_KILLED}.")
            silences.pop(run_id)
            ended += 1
        free_places_of_ended_runs(self.instance)
        return silences, ended

    def living(self) -> list[LivingRun]:
        """The runs of arrivals that wait or work."""
        return [
            LivingRun(run.tags[_PARTITION_TAG], run.run_id, run.tags.get(REQUEST_TAG, ""), _arrivals_of(run))
            for run in self._runs((*_WAITING, *_RUNNING))
            if self._is_of_arrival(run)
        ]

    def ended(self, rows: Mapping[str, ArrivalRow]) -> list[EndedRun]:
        """Of each of these arrivals the run that was asked for, or its latest, if that came to an end.

        What is known of it already is left out.
        """
        asked = {key: row.asked for key, row in rows.items() if row.asked}
        by_hand = {token.removeprefix(BY_HAND) for token in asked.values() if token.startswith(BY_HAND)}
        found: dict[str, dg.DagsterRun] = {}
        for token, run in self._by_tag(REQUEST_TAG, {*asked.values()}).items():
            found.update({key: run for key, one in asked.items() if one == token and _is_on(run, key)})
        for run_id in by_hand:
            by_id = self.instance.get_run_by_id(run_id)
            if by_id is not None and self._is_of_arrival(by_id):
                found.update({key: by_id for key, one in asked.items() if one == f"{BY_HAND}{run_id}"})
        others = {key: partition_of(key, row) for key, row in rows.items() if not row.asked}
        for key, run in self._latest(others).items():
            if run.run_id != rows[key].run_id:
                found[key] = run
        ends: dict[str, _End] = {}
        for run in found.values():
            if run.is_finished and run.run_id not in ends:
                ends[run.run_id] = self._end(run)
        suspects = Counter(run.run_id for run in found.values())
        return [
            ends[run.run_id].of(key, len(_arrivals_of(run)) or suspects[run.run_id])
            for key, run in found.items()
            if run.run_id in ends
        ]

    def _by_tag(self, tag: str, values: Collection[str]) -> dict[str, dg.DagsterRun]:
        """The newest run of arrivals for each value of a tag."""
        wanted, newest = sorted(values), dict[str, dg.DagsterRun]()
        for start in range(0, len(wanted), _AT_ONCE):
            of = dg.RunsFilter(tags={tag: wanted[start : start + _AT_ONCE]})
            for run in self.instance.get_runs(of, limit=_AT_ONCE * 10):
                if self._is_of_arrival(run):
                    newest.setdefault(run.tags[tag], run)
        return newest

    def _latest(self, partitions: Mapping[str, str]) -> dict[str, dg.DagsterRun]:
        """The newest run that worked on each arrival, by its partition."""
        keys_of: dict[str, list[str]] = {}
        for key, partition in partitions.items():
            keys_of.setdefault(partition, []).append(key)
        wanted, newest = sorted(keys_of), dict[str, dg.DagsterRun]()
        for start in range(0, len(wanted), _AT_ONCE):
            of = dg.RunsFilter(tags={_PARTITION_TAG: wanted[start : start + _AT_ONCE]})
            for run in self.instance.get_runs(of, limit=_AT_ONCE * 10):
                if self._is_of_arrival(run):
                    for key in keys_of[run.tags[_PARTITION_TAG]]:
                        if _is_on(run, key):
                            newest.setdefault(key, run)
        return newest

    def _runs(self, statuses: Iterable[dg.DagsterRunStatus]) -> list[dg.DagsterRun]:
        runs = self.instance.get_runs(dg.RunsFilter(statuses=list(statuses)))
        return [run for run in runs if self._is_ours(run)]

    def _is_ours(self, run: dg.DagsterRun) -> bool:
        named = run.tags.get(DATA_SET_TAG)
        if named is not None:
            return named == self.data_set
        checked = {key.asset_key for key in run.asset_check_selection or ()}
        return bool(self.keys & {*(run.asset_selection or ()), *checked})

    def _is_of_arrival(self, run: dg.DagsterRun) -> bool:
        if _PARTITION_TAG not in run.tags or not self._is_ours(run):
            return False
        return run.job_name == self.arrival_job or bool(
            self.arrival_keys & (run.asset_selection or frozenset())
        )

    def _end(self, run: dg.DagsterRun) -> _End:
        end = _End(run.run_id, run.tags.get(REQUEST_TAG, ""))
        if run.status == dg.DagsterRunStatus.SUCCESS:
            return replace(end, achieved=self._achieved(run))
        error, kind = why_it_ended(self.instance, run)
        if kind == "canceled":
            return replace(end, fate="canceled", error=error, error_kind=kind)
        if kind == "killed":
            return replace(
                end, fate="killed", error=error, error_kind=kind, place=step_at_its_end(self.instance, run)
            )
        return replace(end, fate="failure", error=error, error_kind=kind, faults=_faults(self.instance, run))

    def _achieved(self, run: dg.DagsterRun) -> Mapping[str, str]:
        """The version of each arrival that a run took in; under "" that of any."""
        made, versions = set(), dict[str, str]()
        for entry in self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            materialization = entry.asset_materialization
            if materialization is None:
                continue
            made.add(materialization.asset_key)
            if materialization.asset_key == self.raw_dicom:
                told = materialization.metadata.get(VERSIONS_METADATA)
                content = (materialization.tags or {}).get(DATA_VERSION_TAG, "")
                settings = materialization.metadata.get(SETTINGS_METADATA)
                of_each: Any = {"": content} if told is None else told.value
                versions = {
                    key: f"{one}:{settings.value if settings is not None else ''}"
                    for key, one in of_each.items()
                }
        return versions if self.arrival_keys <= made else {}


def step_at_its_end(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Key of the step that a run was in when its process was killed; "" where it was in none."""
    ends = {
        dg.DagsterEventType.STEP_START,
        dg.DagsterEventType.STEP_SUCCESS,
        dg.DagsterEventType.STEP_SKIPPED,
    }
    steps = [
        entry.dagster_event
        for entry in instance.all_logs(run.run_id, of_type=ends)
        if entry.dagster_event is not None
    ]
    if not steps or steps[-1].event_type != dg.DagsterEventType.STEP_START:
        return ""
    return steps[-1].step_key or ""


def why_it_ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, ErrorKind]:
    """The error that a run which did not succeed ended with, without identifiers, and whose fault it was."""
    if run.status == dg.DagsterRunStatus.CANCELED:
        return "its run was canceled", "canceled"
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is None or event.event_type != dg.DagsterEventType.STEP_FAILURE:
            continue
        error, told = event.step_failure_data.error, event.step_failure_data.user_failure_data
        if error is not None and error.cls_name == _INTERRUPTED:
            break
        fault = told.metadata.get(FAULT_METADATA) if told is not None else None
        text = (told.description if told is not None else None) or (error.cls_name if error else "failed")
        is_machine = fault is not None and fault.value == "machine"
        return f"{event.step_key}: {text}", "machine" if is_machine else "item"
    return _KILLED, "killed"


def _faults(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, tuple[str, ErrorKind]]:
    """Which of its arrivals a run failed by, if it says so."""
    found: dict[str, tuple[str, ErrorKind]] = {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is None or event.event_type != dg.DagsterEventType.STEP_FAILURE:
            continue
        told = event.step_failure_data.user_failure_data
        said: Any = told.metadata.get(FAILED_METADATA) if told is not None else None
        for key, one in (said.value if said is not None else {}).items():
            fault: ErrorKind = "machine" if one["fault"] == "machine" else "item"
            found[key] = (f"{event.step_key}: {one['error']}", fault)
    return found


def arrivals_of_run(tags: Mapping[str, str]) -> tuple[str, ...]:
    """The arrivals that a run was asked to work on; none: all of its partition."""
    return tuple(tags.get(ARRIVALS_TAG, "").split())


def _arrivals_of(run: dg.DagsterRun) -> tuple[str, ...]:
    return arrivals_of_run(run.tags)


def _is_on(run: dg.DagsterRun, key: str) -> bool:
    keys = _arrivals_of(run)
    return not keys or key in keys
