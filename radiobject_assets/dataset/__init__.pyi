"""The public names of dataset, and where they come from: `__init__.py` imports each on its first use."""

from .dataset_yaml import (
    DatasetSettings as DatasetSettings,
    load_dataset as load_dataset,
)
