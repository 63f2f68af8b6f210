"""What is asked of a vendor's headers, and the answers of a vendor of whom nothing is known.

A vendor is a subclass of `Vendor` in a module of `vendors`, and a line in `vendors.VENDORS`. It overrides
what its headers say beyond the standard, and lists in `rules` what that is and what it rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.gradient_directions import Direction
from radiobject_assets.imaging.dicom.instance import Frame
from radiobject_assets.imaging.source import AttributeValue

_TILED = frozenset({"MOSAIC", "VFRAME"})
"""In the ImageType of slices that are tiled into one image."""

RestsOn = Literal["real file", "published data", "standard", "vendor documentation", "nothing"]
"""What a rule was held against.

real file
    Files of such a scanner in the reference data (or in a library's test data), read by an independent tool.
published data
    Measurements, headers or comparisons that others published of such scanners; the files are not here.
standard, vendor documentation
    A text alone: no file was seen that shows that scanners keep to it.
nothing
    A reading that is possible. What it gives is marked in obs, or refused.
"""


@dataclass(frozen=True)
class VendorRule:
    """One thing that the code believes about a vendor's headers.

    name
        By which code and obs point to it.
    vendor
        Whose headers; `any` where all are meant.
    what
        The rule, with the elements.
    source
        Files, documents or threads that it rests on; where it rests on nothing, what is not known.
    """

    name: str
    vendor: str
    what: str
    rests_on: RestsOn
    source: str


@dataclass(frozen=True, slots=True)
class ImageFrames:
    """The planes of one file: `Instance.frames`, `Instance.tiles` and `Instance.tile_rows`."""

    frames: tuple[Frame, ...] = ()
    tiles: int = 0
    tile_rows: int = 0


class Vendor:
    """Headers of one vendor; here what is read of any vendor's.

    Methods get the elements of an image, or of the macros of a frame of an enhanced object where that is
    said.
    """

    rules: ClassVar[tuple[VendorRule, ...]] = ()
    """What is taken for granted of the vendor's headers."""
    private_elements: ClassVar[Mapping[int, str]] = {}
    """Tags of the private elements that the methods read, with the kind of their values (`Elements`)."""
    standard_direction_rule: ClassVar[str] = "orientation"
    """Rule by which DiffusionGradientOrientation of a classic image is understood."""
    mapping_is_rescale: ClassVar[bool] = False
    """Whether the real-world value mapping of an image without rescale is its rescale."""
    uid_of_each_slice: ClassVar[bool] = False
    """Whether slices of one series may have a SeriesInstanceUID each, which counts along them."""
    numbers_follow_volumes: ClassVar[bool] = True
    """Whether InstanceNumber counts the images volume by volume, in the order of time."""
    times_of_volumes: ClassVar[bool] = True
    """Whether times of acquisition tell the time between volumes."""
    traces_apart: ClassVar[bool] = False
    """Whether a weighted volume without a direction, in a series that has directions, is a trace image."""
    unweighted_without_direction: ClassVar[bool] = False
    """Whether a volume without a direction, in a series that has directions, is not weighted."""

    def made(self, manufacturer: str) -> bool:
        """Whether an image is of this vendor, by its Manufacturer in upper case."""
        raise NotImplementedError

    def b_value(self, elements: Elements) -> float | None:
        """b-value (s/mm2) of an image or of a frame's diffusion macro without DiffusionBValue."""
        return None

    def direction(self, elements: Elements) -> Direction | None:
        """Gradient direction by the vendor's own elements, of an image or of a frame's diffusion macro."""
        return None

    def direction_of_two(self, standard: Direction, own: Direction) -> Direction:
        """Which direction counts where the standard's element and the vendor's own are both there."""
        return standard

    def component(self, elements: Elements) -> str:
        """`Frame.component` of an image whose standard elements name none."""
        return ""

    def volume_numbers(self, elements: Elements) -> tuple[int, ...]:
        """`Frame.volume_numbers`: numbers of the volumes of a series, in the order they count."""
        return ()

    def rows_reversed(self, elements: Elements) -> bool | None:
        """`Frame.rows_reversed` of an image."""
        return False

    def image_frames(self, elements: Elements, whole: Frame) -> ImageFrames:
        """The planes of a classic image: one, or several where slices are tiled into it.

        Parameters
        ----------
        whole
            The image as if it were one slice.
        """
        # whose tiles they are is known by the maker alone, and de-identification may take its name away
        words = set(elements.text(t.IMAGE_TYPE).upper().split("\\"))
        is_tiled = not _TILED.isdisjoint(words)
        # Siemens' XA software takes mosaics apart and leaves the word: such a slice is smaller than two tiles
        matrix = max(elements.numbers(t.ACQUISITION_MATRIX), default=0)
        side = max(elements.integer(t.ROWS) or 0, elements.integer(t.COLUMNS) or 0)
        if "VFRAME" not in words and matrix and 2 * matrix > side:
            is_tiled = False
        return ImageFrames((whole,), -1 if is_tiled else 0)

    def attributes(
        self, elements: Elements, found: ImageFrames, *, has_pixels: bool
    ) -> dict[str, AttributeValue]:
        """Columns of obs that the vendor's own elements give of a file with these planes."""
        return {}

    def suv_factor(self, elements: Elements) -> float | None:
        """Factor from physical values of a PET image in counts to SUV by body weight."""
        return None
