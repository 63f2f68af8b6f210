"""Vendors as a table: each is a module with a `Vendor`, and a line in `VENDORS`; `vendor_of` finds it.

To add one, write a module with a subclass of `Vendor` that overrides what its headers say beyond the
standard, lists the private elements it reads, and says in `rules` what it rests on; name it in `VENDORS`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from radiobject_assets.imaging.dicom.vendor import Vendor
from radiobject_assets.imaging.dicom.vendors.canon import Canon, Toshiba
from radiobject_assets.imaging.dicom.vendors.ge import Ge
from radiobject_assets.imaging.dicom.vendors.philips import Philips
from radiobject_assets.imaging.dicom.vendors.siemens import Siemens
from radiobject_assets.imaging.dicom.vendors.uih import Uih

VENDORS: Final[tuple[Vendor, ...]] = (
    Siemens(),
    Ge(),
    Philips(),
    Uih(),
    Canon(),
    Toshiba(),
)
"""The first that made an image is its vendor."""
_OTHER: Final = Vendor()
PRIVATE_ELEMENTS: Final = {tag: kind for v in VENDORS for tag, kind in v.private_elements.items()}
"""Those that headers are read with, whoever made the image."""


@lru_cache(maxsize=1024)
def vendor_of(manufacturer: str) -> Vendor:
    """The vendor of images with this Manufacturer; one that adds nothing to the standard for any other."""
    name = manufacturer.upper()
    return next((vendor for vendor in VENDORS if vendor.made(name)), _OTHER)
