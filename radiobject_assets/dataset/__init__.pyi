"""The public names of dataset, and where they come from: `__init__.py` imports each on its first use."""

from .config import (
    DatasetConfig as DatasetConfig,
    load_dataset as load_dataset,
)
