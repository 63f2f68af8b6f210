"""radiobject-assets: raw DICOM and NIfTI to training batches, as Dagster assets over RadiObject on TileDB.

The public names are imported when they are first used: `import radiobject_assets` alone loads neither
TileDB nor torch nor Dagster.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
