"""From files to image sources: DICOM, NIfTI, segmentations and contours, with geometry and verdicts.

The way of the data: `scan` reads every file's header once (`instance.Instance`), `build_series`
groups instances into series with a verdict each, `open_series.open_series` decodes an ingestable one in slabs
(`source.ImageSource`). No TileDB and no Dagster here.

The names that RadiObject's users know are imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
