"""What the package promises by name, and what it costs to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from radiobject_assets import training


def test_every_public_name_is_there():
    for name in training.__all__:
        assert getattr(training, name).__module__ or name == "LabelSource"
    assert set(training.__all__) <= set(dir(training))
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = training.nothing


def test_the_patch_cache_needs_neither_torch_nor_torchio():
    code = (
        "import sys; from radiobject_assets.training import PatchCache, build_patch_cache, assign_splits, "
        "verify_patch_cache, find_leakage; "
        "assert not {'torch', 'torchio', 'monai', 'dagster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
