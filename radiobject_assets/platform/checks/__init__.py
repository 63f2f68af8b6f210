"""Asset checks: what guards each arrow of the lineage.

A check calls rules of `diagnostics` or `training` and reports what they found. It never takes the asset as
an input: with dynamic partitions Dagster would load another partition's (dagster#27747). An unexpected error
inside a check is a failed check with its message, and every failure says how to recover.

Two sorts: those on an arrival's partition, inside its run, which block where going on would do harm; and
standing ones over the whole data set. Each runs from the UI in every way that the UI offers: one on a
partition, evaluated without it, looks at everything.
"""

from __future__ import annotations

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets.partitions import collection_names
from radiobject_assets.platform.checks.accounting import build_accounting_check
from radiobject_assets.platform.checks.integrity import build_integrity_check
from radiobject_assets.platform.checks.leakage import build_leakage_check
from radiobject_assets.platform.checks.nothing_left import build_left_behind_check
from radiobject_assets.platform.checks.patches import build_patch_check
from radiobject_assets.platform.checks.reading import build_reading_check
from radiobject_assets.platform.checks.standing import build_standing_checks


def build_checks(settings: DatasetSettings) -> list[dg.AssetChecksDefinition]:
    """All checks of one data set."""
    checks = [
        build_left_behind_check(settings),
        build_accounting_check(settings),
        *(build_integrity_check(settings, name) for name in collection_names(settings)),
        build_reading_check(settings),
        build_leakage_check(settings),
        *build_standing_checks(settings),
    ]
    if settings.patches is not None:
        checks.append(build_patch_check(settings))
    return checks
