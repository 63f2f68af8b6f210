"""What the platform takes from inside Dagster, for want of public names: nobody else imports `dagster._*`.

Held to Dagster 1.13, since pyproject.toml allows no other (tested: 1.13.27). For a new minor version look for
a public name of each first, then run the tests that are named here.

`DATA_VERSION_TAG`, `get_input_data_version_tag`
    Which version of each input a materialization was made from stands in the tags of its event alone. Public
    are only the version of an output that is being made, and conditions that forget what came between two
    ticks. Tests: tests/platform/test_conditions.py.
`UnresolvedAssetJobDefinition`
    What `dg.define_asset_job` returns has no public name to annotate with. Test: mypy.
`PartitionKeyFilter`
    The history of a check can be asked for one partition; without it every record of the check would have to
    be read. Tests: tests/platform/test_line.py.
`AssetCheckExecutionRecordStatus`
    The states that this history tells apart, planned among them, which says nothing yet. Public results of
    checks are passed or failed. Tests: tests/platform/test_line.py.
"""

from __future__ import annotations

from dagster._core.definitions.data_version import DATA_VERSION_TAG, get_input_data_version_tag
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

__all__ = [
    "DATA_VERSION_TAG",
    "AssetCheckExecutionRecordStatus",
    "PartitionKeyFilter",
    "UnresolvedAssetJobDefinition",
    "get_input_data_version_tag",
]
