"""The Dagster instance of a data set on one machine: its folder, its settings, and what is served from it.

No Dagster here: a command that only starts it would wait for the import.
"""

from __future__ import annotations

from pathlib import Path

from radiobject_assets.system.durable_files import write_whole

LOCATION = "radiobject_assets"
"""Name of the code location; what the sensors remember is kept under it."""

_SETTINGS = """\
# Written once; change it freely.
telemetry:
  enabled: false
nux:
  enabled: false
# What decoders print may quote header values, which name patients: it is not kept.
compute_logs:
  module: dagster.core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
# Messages of the library in the event log of the run: counts and tokens, no names.
python_logs:
  managed_python_loggers: [radiobject_assets]
  python_log_level: INFO
# SQLite suits one run at a time, and so does one memory budget. With Postgres, raise it.
concurrency:
  runs:
    max_concurrent_runs: 1
    # one run for a partition, also where somebody starts a second one by hand
    tag_concurrency_limits:
      - {key: dagster/partition, value: {applyLimitPerUniqueValue: true}, limit: 1}
  # Steps that may fill the memory budget share the pool `memory_budget`; the arrivals sensor sets its limit.
  pools:
    granularity: op
# Runs that do not start, or do not end when they are told to. Those whose process dies are ended by the
# arrivals sensor, and asked for again by it: Dagster's own retries would know neither why nor how often.
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  cancel_timeout_seconds: 180
  free_slots_after_run_end_seconds: 60
run_retries:
  enabled: false
# Sensors look every 30 seconds: what they saw is not kept for ever.
retention:
  sensor:
    purge_after_days: {skipped: 3, success: 30, failure: 30}
"""

_WORKSPACE = f"""\
load_from:
  - python_module:
      module_name: radiobject_assets.definitions
      location_name: {LOCATION}
"""


def prepare_instance(folder: Path) -> Path:
    """Make the folder (DAGSTER_HOME) and its dagster.yaml where they are missing; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "dagster.yaml"
    if not settings.is_file():
        write_whole(settings, _SETTINGS)
    return folder


def write_workspace(folder: Path) -> Path:
    """Say in DAGSTER_HOME what is served; returns the file."""
    file = folder / "workspace.yaml"
    write_whole(file, _WORKSPACE)
    return file
