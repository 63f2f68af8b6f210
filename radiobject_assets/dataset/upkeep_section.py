"""`upkeep` of dataset.yaml: what the nightly upkeep removes, and what it leaves."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from radiobject_assets.dataset.section import Section


class UpkeepConfig(Section):
    """What becomes of what nobody names any more: earlier states, replaced arrays, older patch caches."""

    keep_caches_days: Annotated[float, Field(ge=0)] = 30.0
    """Days that a patch cache stays after a newer one of its split was made: a training may be reading it."""
    keep_arrays_hours: Annotated[float, Field(ge=1)] = 24.0
    """Hours that the store's earlier states, and arrays that were replaced, stay. Longer than the longest run
    and the longest reading of a store without a snapshot."""
