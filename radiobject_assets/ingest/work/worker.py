"""What a worker process of ingest imports before its first task; only such a process imports it."""

from __future__ import annotations

from radiobject_assets.system.pyarrow_start import pyarrow_without_pandas
from radiobject_assets.workers.calls import call as call

pyarrow_without_pandas()

from radiobject_assets.ingest.work import volume_task as volume_task  # noqa: E402
