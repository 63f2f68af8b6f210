"""What Dagster's records tell of the runs of a data set: which live, which are dead, and how others ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import dagster as dg

from radiobject_assets.platform.arrivals.arrival_table import ErrorKind
from radiobject_assets.platform.arrivals.reconciling import EndedRun, LivingRun, stopped_hearts
from radiobject_assets.platform.dagster_internals import DATA_VERSION_TAG
from radiobject_assets.platform.memory_pool import free_places_of_ended_runs
from radiobject_assets.resources import HEART_TAG, Heartbeat

ARRIVAL_VERSION_TAG = "radiobject/arrival_version"
"""The version of an arrival that a run was asked for: of its content, and of the settings."""
DATA_SET_TAG = "radiobject/data_set"
REQUEST_TAG = "radiobject/request"
IMAGES_TAG = "radiobject/images"
SETTINGS_METADATA = "settings_version"
"""Metadata of `raw_dicom`: what dataset.yaml said of images when the run took an arrival in."""
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
            LivingRun(run.tags[_PARTITION_TAG], run.run_id, run.tags.get(REQUEST_TAG, ""))
            for run in self._runs((*_WAITING, *_RUNNING))
            if self._is_of_arrival(run)
        ]

    def ended(self, keys: Sequence[str], known: Mapping[str, str] | None = None) -> list[EndedRun]:
        """Of each of these arrivals the run that was started last, if it has come to an end.

        Parameters
        ----------
        known
            Runs whose end is known, by arrival: they are left out.
        """
        known = known or {}
        found: dict[str, EndedRun] = {}
        for start in range(0, len(keys), _AT_ONCE):
            wanted = {_PARTITION_TAG: list(keys[start : start + _AT_ONCE])}
            newest: dict[str, dg.DagsterRun] = {}
            for run in self.instance.get_runs(dg.RunsFilter(tags=wanted), limit=_AT_ONCE * 10):
                if self._is_of_arrival(run):
                    newest.setdefault(run.tags[_PARTITION_TAG], run)
            news = {k: run for k, run in newest.items() if run.is_finished and known.get(k) != run.run_id}
            found.update({key: self._end(run) for key, run in news.items()})
        return list(found.values())

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

    def _end(self, run: dg.DagsterRun) -> EndedRun:
        end = EndedRun(
            key=run.tags[_PARTITION_TAG],
            run_id=run.run_id,
            fate="success",
            asked=run.tags.get(REQUEST_TAG, ""),
            images=run.tags.get(IMAGES_TAG, ""),
        )
        if run.status == dg.DagsterRunStatus.SUCCESS:
            return replace(end, achieved=self._achieved(run))
        error, kind = why_it_ended(self.instance, run)
        if kind == "canceled":
            return replace(end, fate="canceled", error=error, error_kind=kind)
        if kind == "killed":
            return replace(end, fate="killed", error=error, error_kind=kind, place=self._place(run))
        return replace(end, fate="failure", error=error, error_kind=kind)

    def _achieved(self, run: dg.DagsterRun) -> str:
        made, version = set(), ""
        for entry in self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            materialization = entry.asset_materialization
            if materialization is None:
                continue
            made.add(materialization.asset_key)
            if materialization.asset_key == self.raw_dicom:
                content = (materialization.tags or {}).get(DATA_VERSION_TAG, "")
                settings = materialization.metadata.get(SETTINGS_METADATA)
                version = f"{content}:{settings.value if settings is not None else ''}"
        return version if self.arrival_keys <= made else ""

    def _place(self, run: dg.DagsterRun) -> str:
        ends = {
            dg.DagsterEventType.STEP_START,
            dg.DagsterEventType.STEP_SUCCESS,
            dg.DagsterEventType.STEP_SKIPPED,
        }
        steps = [
            entry.dagster_event
            for entry in self.instance.all_logs(run.run_id, of_type=ends)
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
