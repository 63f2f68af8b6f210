"""The RadiObject data structure on TileDB: volumes with affines, tables of volumes and subjects, snapshots.

What belongs here: the format on disk, reading and writing it, queries. What does not: image files (they
come through the entry-point group `radiobject_assets.image_readers`), Dagster, PyTorch. `docs/format.md`
specifies the format. Its public names stand in `__init__.pyi`; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
