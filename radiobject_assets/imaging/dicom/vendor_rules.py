"""What is taken for granted of each vendor's headers, and what that rests on.

Frames name the rule by which their gradient directions were understood (`Frame.direction_rule`); obs says it,
and says where a rule rests on nothing. docs/reference/evidence.md is made from this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from radiobject_assets.imaging.source import AttributeValue

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


RULES: Final = (
    VendorRule(
        "orientation-enhanced",
        "any",
        "DiffusionGradientOrientation (0018,9089) of an enhanced object is in patient coordinates.",
        "real file",
        "PS3.3 C.8.13.5.9; Philips enhanced diffusion (reference data, slices not tilted) against dcm2niix",
    ),
    VendorRule(
        "orientation-canon",
        "Canon",
        "DiffusionGradientOrientation (0018,9089) of a classic image is in patient coordinates.",
        "real file",
        "Canon Galan 3T, V6.1, slices tilted by 20 degrees, 12 directions, against dcm2niix; the data set's "
        "description and pull request 1000 of dcm2niix",
    ),
    VendorRule(
        "orientation-philips",
        "Philips",
        "DiffusionGradientOrientation (0018,9089) of a classic image is in patient coordinates.",
        "real file",
        "Philips classic diffusion (reference data, slices tilted by 1.5 degrees) against dcm2niix",
    ),
    VendorRule(
        "orientation-toshiba",
        "Toshiba",
        "DiffusionGradientOrientation (0018,9089) of a classic image is in patient coordinates; unweighted "
        "images do not have it.",
        "published data",
        "dcm2niix's notes on Toshiba and its public data set of a Galan 3T, V5.0",
    ),
    VendorRule(
        "orientation",
        "any other",
        "DiffusionGradientOrientation (0018,9089) of a classic image is in patient coordinates.",
        "standard",
        "PS3.3 C.8.13.5.9, which defines it for enhanced objects; vendors borrow it for classic images",
    ),
    VendorRule(
        "orientation-contradicted",
        "GE, UIH",
        "DiffusionGradientOrientation (0018,9089) and the vendor's own direction of one image are more than "
        "2 degrees apart when both are turned to the patient: UIH's own is taken, of GE the standard's.",
        "nothing",
        "which of the two is right; no file of that kind was seen",
    ),
    VendorRule(
        "siemens-gradient",
        "Siemens",
        "The direction in (0019,100E) is in patient coordinates.",
        "real file",
        "a Siemens B17 diffusion mosaic (nibabel's test data, slices tilted by 0.3 degrees) against "
        "dcm2niix, and against its B-matrix; dcm2niix's notes on Siemens, issue 419",
    ),
    VendorRule(
        "siemens-csa-gradient",
        "Siemens",
        "B_value and DiffusionGradientDirection of the CSA header (0029,1010): as (0019,100C) and "
        "(0019,100E).",
        "real file",
        "the same mosaic: both places hold the same; CSA headers of B17 read as nibabel reads them",
    ),
    VendorRule(
        "philips-gradient",
        "Philips",
        "The direction in (2005,10B0), (2005,10B1), (2005,10B2) is in patient coordinates.",
        "published data",
        "issue 182 of dcm2niix: header and geometry of a scan tilted by 12 degrees, whose third direction is "
        "the slice normal in patient coordinates",
    ),
    VendorRule(
        "uih-gradient",
        "UIH",
        "The direction in (0065,1037) is along row, column and normal of the image, and goes before "
        "(0018,9089).",
        "published data",
        "dcm2niix and dicm2nii, which read it so independently, held against UIH's own data set (issue 225)",
    ),
    VendorRule(
        "ge-gradient",
        "GE",
        "The direction in (0019,10BB), (0019,10BC), (0019,10BD) is along frequency, phase and slice of the "
        "scan. Which way these run in the image follows from the main direction of the slices and from "
        "InPlanePhaseEncodingDirection, and not from the patient's position.",
        "published data",
        "GE's engineer in issues 737, 970 and 971 of dcm2niix (all planes, both phase directions, head first "
        "and feet first) and in 2517 and 2523 of MRtrix3 (a tensor of an axial scan, phase along rows)",
    ),
    VendorRule(
        "ge-gradient-no-phase",
        "GE",
        "Where InPlanePhaseEncodingDirection is absent, (0019,10BB), (0019,10BC), (0019,10BD) are taken "
        "along row, column (against it) and normal of the image.",
        "nothing",
        "whether rows or columns were phase encoded",
    ),
    VendorRule(
        "canon-comment-gradient",
        "Canon, Toshiba",
        "The direction in ImageComments, b=1000(x,y,z), is along phase, frequency and slice of the scan; "
        "(0018,9089) goes before it.",
        "nothing",
        "the sign of the phase encoding, which these images do not tell: of two scans of opposite polarity "
        "one has a component of the wrong sign (dcm2niix's notes on Canon; its data set has phase along "
        "columns)",
    ),
    VendorRule(
        "canon-uid-of-each-slice",
        "Canon",
        "Series of one SeriesNumber whose UIDs differ in their last number are the slices of one series, "
        "where that number counts along the slices and each has the same number of images.",
        "published data",
        "issue 495 of dcm2niix (Galan 3T, V6.0SP2001, classic images); no file was seen",
    ),
    VendorRule(
        "ge-b-value",
        "GE",
        "The b-value is the first number in (0043,1039), modulo 1e9; where a vector is shorter than 1, it is "
        "that times the square of the length, to the nearest 5 s/mm2.",
        "published data",
        "issues 149, 163 and 245 of dcm2niix; the plain number in a real file of a Discovery MR750",
    ),
    VendorRule(
        "siemens-b-value",
        "Siemens",
        "The b-value is (0019,100C), or B_value of the CSA header.",
        "real file",
        "a Siemens B17 diffusion mosaic (nibabel's test data) against dcm2niix",
    ),
    VendorRule(
        "philips-b-value",
        "Philips",
        "The b-value is (2001,1003) where the standard's element is absent.",
        "real file",
        "a classic diffusion series (reference data) that has both, equal, against dcm2niix",
    ),
    VendorRule(
        "uih-b-value",
        "UIH",
        "The b-value is (0065,1009) where the standard's element is absent.",
        "vendor documentation",
        "UIH's table of private elements (issue 225 of dcm2niix)",
    ),
    VendorRule(
        "ge-unweighted",
        "GE",
        "In a series that has directions, a volume without one is unweighted, whatever its b-value.",
        "published data",
        "GE's engineer in issue 777 of dcm2niix: software before 29.1 labels such volumes wrongly",
    ),
    VendorRule(
        "ge-times",
        "GE",
        "Acquisition times are one for the whole series, or each slice's own: no time between volumes is "
        "made of them.",
        "real file",
        "functional and diffusion series of a Discovery MR750 (reference data): one time each",
    ),
    VendorRule(
        "ge-component",
        "GE",
        "(0043,102F) is 0 for magnitude, 1 for phase, 2 for the real and 3 for the imaginary part.",
        "vendor documentation",
        "dcm2niix's notes on GE; of a real file only 0 was seen",
    ),
    VendorRule(
        "ge-pepolar",
        "GE",
        "Images of epi_pepolar (0019,109C) whose mode (0019,10B3) is 2 are stored with their rows in reverse "
        "order where TemporalPositionIdentifier is odd.",
        "real file",
        "GE UHP 3T, mode 2, against dcm2niix (issue 532 there, 479 of heudiconv)",
    ),
    VendorRule(
        "ge-pepolar-modes",
        "GE",
        "In mode 0 no image of epi_pepolar is reversed, in mode 1 all are, in mode 3 those of even "
        "TemporalPositionIdentifier. Any other mode, and no mode, is refused.",
        "published data",
        "the public data set of all four modes and its description (issue 532 of dcm2niix)",
    ),
    VendorRule(
        "siemens-split",
        "Siemens",
        "Series with MFSPLIT are volumes of one enhanced series: SeriesNumber is the scan's times 1000 and "
        "the volume's number, AcquisitionNumber is the volume's number, Related Series Sequence names the "
        "series.",
        "real file",
        "Siemens Prisma, XA30, interoperability export of a functional scan, against dcm2niix; PS3.16 121326",
    ),
    VendorRule(
        "siemens-mosaic",
        "Siemens",
        "Tiles of a mosaic are slices along SliceNormalVector of the CSA header; ImagePositionPatient is "
        "that of a slice as large as the mosaic.",
        "real file",
        "a functional series (reference data) and nibabel's B17 mosaics against dcm2niix and nibabel; of "
        "tiles against the normal no file was seen",
    ),
    VendorRule(
        "siemens-mosaic-taken-apart",
        "Siemens",
        "An image with MOSAIC in its ImageType, that nothing describes as a mosaic and that is smaller "
        "than two tiles of its AcquisitionMatrix, is a slice.",
        "published data",
        "dcm2niix's notes on XA software; no file was seen",
    ),
    VendorRule(
        "siemens-csa1",
        "Siemens",
        "Lengths of the older CSA header are larger than they should be by one constant, found by trying.",
        "published data",
        "the descriptions of nibabel and SPM, which differ in where it stands; no file was seen",
    ),
    VendorRule(
        "siemens-slice-times",
        "Siemens",
        "(0019,1029), or MosaicRefAcqTimes of the CSA header, is when each slice was acquired (ms).",
        "real file",
        "a functional mosaic series (reference data) against dcm2niix",
    ),
    VendorRule(
        "siemens-phase-encoding",
        "Siemens",
        "PhaseEncodingDirectionPositive of the CSA header is 1 where phase runs along rising rows or "
        "columns; BandwidthPerPixelPhaseEncode gives the echo spacing.",
        "real file",
        "a functional mosaic series (reference data) against dcm2niix, phase along columns, one polarity",
    ),
    VendorRule(
        "uih-grid",
        "UIH",
        "A VFRAME image holds all slices of a volume; MR VFrame Sequence (0065,1051) has the place of each.",
        "vendor documentation",
        "UIH's table of private elements (issue 225 of dcm2niix)",
    ),
    VendorRule(
        "philips-trace",
        "Philips",
        "A weighted volume without a direction, in a series that has directions, is a trace image and a "
        "volume of its own.",
        "published data",
        "dcm2niix, which takes them out as derived images; no file was seen",
    ),
    VendorRule(
        "philips-order",
        "Philips",
        "Volumes are ordered by the numbers of b-value (2005,1412) and direction (2005,1413), the temporal "
        "position, the spin label (2005,1429) and the phase (2001,1008): instance numbers follow no order.",
        "published data",
        "issues 529 and 533 of dcm2niix; in real files (a functional series, two echoes) the temporal "
        "position alone differs",
    ),
    VendorRule(
        "philips-scaling",
        "Philips",
        "The real-world value mapping of a classic image without rescale is its rescale.",
        "real file",
        "anatomical, functional and diffusion series (reference data) against dcm2niix -p n",
    ),
    VendorRule(
        "philips-suv",
        "Philips",
        "(7053,1000) of a PET image in counts is the factor from physical values to SUV by body weight.",
        "published data",
        "vendor-neutral pseudo-code of the Quantitative Imaging Biomarkers Alliance; no file was seen",
    ),
    VendorRule(
        "hitachi-hyperfine",
        "Hitachi, Hyperfine",
        "Nothing beyond the standard is read.",
        "standard",
        "geometry and voxels of one anatomical series each (reference data) against dcm2niix",
    ),
)  # fmt: skip
"""All of them; a text that names a file means one of the reference data, or of a library's own tests."""

RULE: Final = {rule.name: rule for rule in RULES}

COLUMNS: Final = ("b_vectors_rule", "b_vectors_unproved")


def rules_of_directions(names: Iterable[str]) -> dict[str, AttributeValue]:
    """What obs says about how gradient directions were understood (`COLUMNS`).

    Parameters
    ----------
    names
        Of the rules of all volumes; "" for volumes without a direction.
    """
    return _told(RULE, sorted({name for name in names if name}))


def _told(rules: Mapping[str, VendorRule], names: list[str]) -> dict[str, AttributeValue]:
    if not names:
        return {}
    unproved = [rules[name] for name in names if rules[name].rests_on == "nothing"]
    told: dict[str, AttributeValue] = {"b_vectors_rule": " ".join(names)}
    if unproved:
        told["b_vectors_unproved"] = "; ".join(f"not known: {rule.source}" for rule in unproved)
    return told
