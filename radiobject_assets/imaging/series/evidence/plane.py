"""One image plane: a frame of an instance, and what its header says of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radiobject_assets.imaging.dicom.instance import Frame, Instance
from radiobject_assets.imaging.dicom.mosaic import plane_size
from radiobject_assets.imaging.dicom.vendor import Vendor
from radiobject_assets.imaging.dicom.vendors import vendor_of
from radiobject_assets.imaging.geometry import Float
from radiobject_assets.imaging.source import AttributeValue


@dataclass(frozen=True, slots=True)
class Plane:
    """One frame of one instance."""

    instance: Instance
    frame: Frame
    index: int
    """Frame number in the instance, from 0."""

    def says(self, attribute: str) -> AttributeValue:
        """An acquisition parameter: the frame's own where it has one, else the instance's."""
        for name, value in self.frame.own:
            if name == attribute:
                return value
        return self.instance.attributes.get(attribute)

    @property
    def vendor(self) -> Vendor:
        """Who made the image, as far as its header may say so."""
        return vendor_of(str(self.says("manufacturer") or ""))

    @property
    def image_type(self) -> str:
        """FrameType of an enhanced object, else ImageType; values joined by backslashes."""
        return self.frame.image_type or self.instance.image_type

    @property
    def size(self) -> tuple[int, int]:
        """(columns, rows) of the slice: of a tile where the instance is a mosaic."""
        return plane_size(self.instance)

    @property
    def placed(self) -> bool:
        """Whether position, orientation and pixel spacing are there."""
        f = self.frame
        return f.position is not None and f.orientation is not None and f.pixel_spacing is not None


def planes_of(instance: Instance) -> list[Plane]:
    """All planes of an instance; frames that the header does not describe are planes without geometry."""
    return [Plane(instance, frame, index) for index, frame in enumerate(instance.frames)]


def axes_of(plane: Plane) -> tuple[Float, Float]:
    """Unit vectors (LPS) along which columns and rows of a placed plane are counted."""
    orientation = np.asarray(plane.frame.orientation, dtype=np.float64)
    return orientation[:3], orientation[3:]


def centre_of(plane: Plane) -> Float:
    """Centre of a placed plane, LPS mm: it stays where it is if the same field has another matrix."""
    along, down = axes_of(plane)
    columns, rows = plane.size
    between_rows, between_columns = plane.frame.pixel_spacing or (1.0, 1.0)
    half = along * (between_columns * (columns - 1) / 2) + down * (between_rows * (rows - 1) / 2)
    return np.asarray(plane.frame.position, dtype=np.float64) + half
