"""The table: what tells planes of one series apart, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from radiobject_assets.imaging.series.evidence.comparisons import (
    CORNER_VOXELS,
    ECHO_TOLERANCE_MS,
    Labels,
    complex_labels,
    direction_name,
    each,
    image_type_name,
    kinds_of,
    measured,
    number_of,
    numbered,
    orientation_labels,
    pixels_name,
    plain_name,
    spacing_labels,
    spacing_name,
    text_of,
    unit_of,
    where_told,
    within,
)
from radiobject_assets.imaging.series.evidence.plane import Plane


class Effect(StrEnum):
    """What follows where planes of a series differ in something."""

    VOLUME = "another volume"
    VOLUME_IN_PLACE = "another volume where both are at the same positions; else one slice's own matter"
    ALTERNATING = "another volume where the slices of both alternate"
    POINT = "another point of the fourth axis"
    FREE = "may differ between the planes of one volume"
    REFUSED = "a contradiction: all are held back"


NEVER: Final = object()
"""No label: of rules whose label always says something."""


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    elements
        DICOM keywords, for people.
    tolerance
        What counts as the same.
    rests_on
        Why it is so: the standard, a tool, or the data that showed it.
    labels, name
        Of rules that divide: who agrees with whom, and how a part is called ("" for no name).
    nothing
        The label of planes whose header lacks what every image of this kind should have; None of the labels
        where its absence tells something (an image without a direction of flow is no part of one with it).
    """

    elements: str
    effect: Effect
    tolerance: str
    rests_on: str
    labels: Labels | None = None
    name: Callable[[Hashable, Plane], str] = lambda value, plane: str(value)
    nothing: Hashable = NEVER


_STANDARD = "PS3.3 "
COMPLEX = Rule(
    "ImageType, FrameType, ComplexImageComponent, (0043,102F) of GE",
    Effect.VOLUME,
    "the same component: magnitude, phase, real, imaginary",
    _STANDARD + "C.8.13.3.1.1; dcm2niix; mr_philips_dualecho, mr_siemens_phase of the reference images",
    complex_labels,
    lambda value, plane: str(value or ""),
    nothing=None,
)
POLARITY = Rule(
    "(0019,109C), (0019,10B3) of GE: rows of pepolar volumes that are stored in reverse order",
    Effect.VOLUME,
    "the same polarity of phase encoding",
    "GE epi_pepolar (dcm2niix issue 532, heudiconv issue 479), a public series of it",
    each(lambda p: bool(p.frame.rows_reversed)),
    lambda value, plane: "reversed" if value else "",
)
TRACE = Rule(
    "DiffusionBValue without a direction, in a Philips series that has directions",
    Effect.VOLUME,
    "",
    "dcm2niix on Philips' series; no reference image has one",
)
PLACING: tuple[Rule, ...] = (
    Rule(
        "ImageOrientationPatient",
        Effect.VOLUME,
        f"no corner moves by more than {CORNER_VOXELS} voxel",
        "SimpleITK and dcm2niix stack what is parallel but for noise",
        orientation_labels,
        direction_name,
    ),
    Rule(
        "PixelSpacing",
        Effect.VOLUME,
        f"no corner moves by more than {CORNER_VOXELS} voxel",
        "values of one series differ in the last digit once some were rewritten",
        spacing_labels,
        spacing_name,
    ),
)
"""Rules on where planes are."""
DIVIDING: tuple[Rule, ...] = (
    Rule(
        "Rows, Columns",
        Effect.VOLUME,
        "equal",
        "one array has one size",
        each(lambda p: (p.instance.columns, p.instance.rows)),
        lambda value, plane: f"{plane.instance.columns}x{plane.instance.rows}",
    ),
    Rule(
        "SamplesPerPixel, PhotometricInterpretation, Float Pixel Data",
        Effect.VOLUME,
        "equal",
        "grey values, their inverse, colours and floating point are not one quantity",
        each(lambda p: (p.instance.samples, p.instance.photometric, p.instance.pixel_keyword)),
        pixels_name,
    ),
    *PLACING,
    Rule(
        "EchoTime, EffectiveEchoTime",
        Effect.VOLUME,
        f"{ECHO_TOLERANCE_MS} ms",
        "dcm2niix; mr_philips_dualecho of the reference images",
        where_told(within(lambda p: p.frame.echo_time_ms, ECHO_TOLERANCE_MS), None),
        lambda value, plane: f"e{value + 1}" if isinstance(value, int) else "",
        nothing=None,
    ),
    COMPLEX,
    Rule(
        "StackID",
        Effect.VOLUME,
        "equal",
        _STANDARD + "C.7.6.16.2.2.4: frames of one stack have one StackID",
        where_told(each(lambda p: p.frame.stack)),
        lambda value, plane: f"stack{value}" if value else "",
        nothing="",
    ),
    Rule(
        "mosaic or single slice",
        Effect.VOLUME,
        "as many tiles",
        "a mosaic is a whole volume",
        each(lambda p: p.instance.tiles),
        lambda value, plane: "mosaic" if value else "",
    ),
    POLARITY,
)
"""Rules that divide wherever planes are."""
IN_PLACE: tuple[Rule, ...] = (
    Rule(
        "SeriesNumber",
        Effect.VOLUME_IN_PLACE,
        "equal",
        "copies of a series that kept its UID; mr_comp_* of the reference images",
        each(lambda p: p.says("series_number")),
        numbered("s"),
        nothing=None,
    ),
    Rule(
        "ImageType, FrameType",
        Effect.VOLUME_IN_PLACE,
        "equal",
        "kinds of image at one position are no time points (field maps, ratios, water and fat, MPR)",
        each(lambda p: p.image_type),
        image_type_name,
        nothing="",
    ),
    Rule(
        "EchoNumbers",
        Effect.VOLUME_IN_PLACE,
        "equal",
        "dcm2niix",
        each(lambda p: p.says("echo_number")),
        lambda value, plane: f"e{value}" if value else "",
        nothing=None,
    ),
    Rule(
        "FlipAngle",
        Effect.VOLUME_IN_PLACE,
        "0.05 degrees",
        "dcm2niix: angles of a T1 map",
        within(number_of("flip_angle_deg"), 0.05),
        measured("fa", "flip_angle_deg"),
        nothing=None,
    ),
    Rule(
        "KVP",
        Effect.VOLUME_IN_PLACE,
        "0.5 kV",
        "dual energy CT: Hounsfield units of another voltage are other values",
        within(number_of("tube_voltage_kv"), 0.5),
        measured("", "tube_voltage_kv", "kv"),
        nothing=None,
    ),
    Rule(
        "ConvolutionKernel",
        Effect.VOLUME_IN_PLACE,
        "equal",
        "two reconstructions of one scan (dcm2niix stacks them in time)",
        each(text_of("convolution_kernel")),
        plain_name,
        nothing="",
    ),
    Rule(
        "SliceThickness",
        Effect.VOLUME_IN_PLACE,
        "10 %",
        "thin and thick reconstructions of one scan",
        within(number_of("slice_thickness_mm"), 0.1, relative=True),
        measured("", "slice_thickness_mm", "mm"),
        nothing=None,
    ),
    Rule(
        "VelocityEncodingDirection",
        Effect.VOLUME_IN_PLACE,
        "equal",
        _STANDARD + "C.8.13.5.15: directions of a flow are components, no time (dcm2niix issue 1001)",
        each(text_of("velocity_encoding_lps")),
        lambda value, plane: "",
    ),
    Rule(
        "CorrectedImage",
        Effect.VOLUME_IN_PLACE,
        "equal",
        _STANDARD + "C.8.9.1: PET with and without attenuation correction",
        each(text_of("corrected_image")),
        lambda value, plane: "",
    ),
)
"""Rules that divide only planes that are at the same positions: a slice may carry a label of its own.

Where a label's slices alternate with another's (three and more of each), they are two stacks."""
ACQUISITION = Rule(
    "AcquisitionNumber of CT",
    Effect.ALTERNATING,
    "slices of two acquisitions that alternate",
    "two phases half a spacing apart in one series (vtk-dicom issue 220)",
    each(lambda p: p.instance.acquisition_number if p.instance.modality == "CT" else None),
    numbered("a"),
)
"""Divides only what alternates: acquisitions follow one another along a CT, and in time."""
UNIT = Rule(
    "RescaleType, Units",
    Effect.VOLUME,
    "the same unit; what names none contradicts none",
    _STANDARD + "C.11.1.1.2, C.8.9.1: values of two units are two quantities",
    where_told(each(unit_of)),
    plain_name,
    nothing="",
)
KIND = Rule(
    "a quantity that ImageType names (water, fat, ADC, ratio...)",
    Effect.VOLUME,
    "the same quantities",
    "a slice of another quantity completes no volume",
    each(lambda p: kinds_of(p.image_type)),
    lambda value, plane: (
        "-".join(map(str, value)).lower().replace(" ", "") if isinstance(value, tuple) else ""
    ),
)
LAST: tuple[Rule, ...] = (UNIT, KIND)
"""Applied last, to what is still together: parts that something else tells apart keep its name."""
FREE: tuple[Rule, ...] = (
    Rule(
        "BitsAllocated, BitsStored, HighBit, PixelRepresentation",
        Effect.FREE,
        "the volume has the widest type, signed where one is",
        "dark slices get fewer bits from some scanners (vtk-dicom issue 211)",
    ),
    Rule(
        "RescaleSlope, RescaleIntercept",
        Effect.FREE,
        "where they differ, voxels are physical values",
        "PS3.3 C.11.1; PET has a slope for each slice",
    ),
    Rule(
        "TransferSyntaxUID, InstanceNumber, any other attribute",
        Effect.FREE,
        "obs says what all planes say, or `<column>_by_point`, or nothing",
        "",
    ),
)
REFUSED: tuple[tuple[str, str, str], ...] = (
    (
        "Parts that something tells apart lie on one line with one spacing, interleaved or one after the "
        "other, and share no more than half of the places of the smaller one",
        "parts_differ",
        "a shorter volume beside its rest looks whole",
    ),
    (
        "Images of the series' kind and size without position, orientation, spacing or pixels, or of its "
        "kind without Rows, Columns or PhotometricInterpretation: with every part that they may belong to",
        "parts_differ",
        "they may be its missing slices",
    ),
    (
        "Parts on one line of which one has too many images at some places, and another lacks just those",
        "parts_differ",
        "they were told apart wrongly, by what some images lack (archives drop images and elements: dcm2niix "
        "issue 349)",
    ),
    (
        "Parts on one line that differ in nothing but that one lacks an element which the other has "
        "(ImageType, EchoTime, EchoNumbers, StackID, SeriesNumber, FlipAngle, KVP, kernel, thickness, unit)",
        "parts_differ",
        "nobody knows whose they are; no reference image is so",
    ),
    (
        "Mosaics beside an image of their kind and size that is none",
        "parts_differ",
        "a mosaic whose private elements were taken away is one of the others' points",
    ),
    (
        "Philips' trace images beside volumes with directions, where either are no volume",
        "parts_differ",
        "an image that lost its direction looks like one of a trace",
    ),
    (
        "Images without a SeriesInstanceUID, of the patient, study, kind, size and number of another series",
        "parts_differ",
        "they may be its slices, or its points (PS3.3 C.7.3.1: every image has one)",
    ),
    (
        "One of RescaleSlope and RescaleIntercept without the other",
        "non_linear_rescale",
        "PS3.3 C.11.1: each is required where the other is",
    ),
    (
        "A rescale in some images and none in others",
        "parts_differ",
        "values of two scales in one volume",
    ),
    (
        "Some positions exist several times, most do not",
        "duplicate_positions",
        "blocks that overlap, or a repeated scan",
    ),
    (
        "SliceLocation differs between images of one position",
        "bad_geometry",
        "exporters of cone beam CT write one position for all slices",
    ),
    (
        "Several images at each position, and no evidence of their order (next table) holds; at a single "
        "position numbers are none",
        "unproved_order",
        "a guess mixes time points",
    ),
    (
        "A kind of time runs against the order that another one gives; numbers against measured times, or "
        "against other numbers (not of Philips, whose numbers follow no order)",
        "unproved_order",
        "one of them is wrong",
    ),
    (
        "The order in time mixes diffusion weightings, and they do not tell the volumes apart themselves",
        "unproved_order",
        "a volume has one weighting",
    ),
    ("Several patients or studies under one SeriesInstanceUID", "mixed_identity", ""),
)
"""Contradictions: what they are, the reason they give, and why."""
