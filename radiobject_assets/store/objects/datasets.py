"""Data sets for training, which a package above the store offers.

The entry-point group `radiobject_assets.datasets` maps `torch` to what makes a data set of a collection.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from radiobject_assets.errors import ConfigurationError

_GROUP = "radiobject_assets.datasets"


def dataset_of(collection: Any, **options: Any) -> Any:
    """A PyTorch data set of a collection's volumes.

    Raises
    ------
    ConfigurationError
        If no installed package offers any.
    """
    for offered in entry_points(group=_GROUP, name="torch"):
        return offered.load()(collection, **options)
    raise ConfigurationError(
        f"nothing installed makes data sets (entry-point group {_GROUP}): install this package again, or use "
        "radiobject_assets.training.VolumeCollectionDataset(collection)"
    )
