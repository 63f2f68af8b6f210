"""The assets: thin functions that take resources, call one library function, and say what they made.

One module for each concept. What is computed belongs to the packages below; when it runs belongs to
`automation`; what guards it belongs to `checks`.
"""

from __future__ import annotations

import dagster as dg

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.platform.assets.arrival import build_raw_dicom, build_series_asset
from radiobject_assets.platform.assets.collections import build_collections
from radiobject_assets.platform.assets.dataset_sheet import build_sheet
from radiobject_assets.platform.assets.patch_cache import build_patch_cache_asset
from radiobject_assets.platform.assets.profile import build_profile
from radiobject_assets.platform.assets.snapshot import build_dataset
from radiobject_assets.platform.assets.splits import build_splits
from radiobject_assets.platform.assets.subjects import build_subjects
from radiobject_assets.platform.assets.upkeep import build_upkeep


def build_assets(settings: DatasetSettings) -> list[dg.AssetsDefinition]:
    """All assets of one data set."""
    patch_cache = build_patch_cache_asset(settings)
    return [
        build_raw_dicom(settings),
        build_series_asset(settings),
        *build_collections(settings),
        build_subjects(settings),
        build_dataset(settings),
        build_profile(settings),
        build_splits(settings),
        build_sheet(settings),
        *([patch_cache] if patch_cache is not None else []),
        build_upkeep(settings),
    ]
