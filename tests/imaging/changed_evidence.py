"""Changes of what a good series' headers say about kind (what a slice shows) and about time.

As in `changed_series`, each is a pure function of planes and a random generator to planes.
"""

from __future__ import annotations

from collections.abc import Callable

from changed_series import (
    NotApplicableError,
    Random,
    at,
    files_renamed,
    points_of,
    setting,
    some,
    without,
)
from good_series import Planes
from pydicom.dataset import Dataset

TEMPORAL = (
    "TemporalPositionIdentifier", "TemporalPositionIndex", "NumberOfTemporalPositions", "TriggerTime",
    "FrameReferenceTime", "ActualFrameDuration", "AcquisitionTime", "AcquisitionDateTime", "AcquisitionDate",
    "ContentTime", "ContentDate", "AcquisitionNumber", "InstanceNumber", "InstanceCreationTime",
    "InstanceCreationDate", "SeriesTime", "SeriesDate",
)  # fmt: skip


KINDS = ("PHASE MAP", "P", "WATER", "FAT", "MIP", "FIELD_MAP", "R", "RATIO", "SUBTRACTION")


def _typed(word: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        values = [str(v) for v in ds.get("ImageType", ["ORIGINAL", "PRIMARY"])]
        values = [*values, "OTHER"][: max(3, len(values))]
        values[2] = word
        if len(values) > 3 and values[3] in ("M", "P", "R", "I"):  # Philips says it twice
            values[3] = word
        ds.ImageType = values

    return change


def quantity_of_some_slices(planes: Planes, random: Random) -> Planes:
    """Some slices of a magnitude stack say that they are phase (or the other way)."""
    ds = planes[0].header()
    if ds.Modality != "MR" or not set(ds.ImageType[2:]) & {"M", "P"} or len({p.of for p in planes}) > 1:
        raise NotApplicableError("ImageType does not tell magnitude from phase, or has both")
    word = "P" if "P" not in ds.ImageType[2:] else "M"
    return at(planes, some(planes, random), _typed(word), kind="other quantity", damaged=True)


def kind_of_some_slices(planes: Planes, random: Random) -> Planes:
    """ImageType of some slices has another third value (of two places, each could be a scan of one slice)."""
    if len({plane.z for plane in planes}) < 3:
        raise NotApplicableError("it has too few slices")
    word = str(random.choice(KINDS))
    return at(planes, some(planes, random), _typed(word), kind=word)


def kind_of_a_point(planes: Planes, random: Random) -> Planes:
    """ImageType of one point of the fourth axis has another third value: it is no point of it then."""
    points = points_of(planes)
    word, point = str(random.choice(KINDS)), int(random.integers(points))
    return [plane.edited(_typed(word), kind=word) if plane.t == point else plane for plane in planes]


def units_of_some_slices(planes: Planes, random: Random) -> Planes:
    """RescaleType of some slices names another unit."""
    ds = planes[0].header()
    if "RescaleSlope" not in ds:
        raise NotApplicableError("it has no rescale")
    places = some(planes, random)
    return [
        plane.edited(setting(RescaleType="MGML"), kind="mg/ml", damaged=True)
        if plane.z in places
        else plane.edited(setting(RescaleType="HU"))
        for plane in planes
    ]


def units_of_a_point(planes: Planes, random: Random) -> Planes:
    """One point of the fourth axis has another unit (counts beside activity)."""
    point = int(random.integers(points_of(planes)))
    return [
        plane.edited(setting(Units="CNTS"), kind="counts")
        if plane.t == point
        else plane.edited(setting(Units="BQML"))
        for plane in planes
    ]


def _clock(seconds: float) -> tuple[str, str]:
    day, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    return f"202001{int(day) + 10:02d}", f"{int(hours):02d}{int(minutes):02d}{rest:09.6f}"


def timed(planes: Planes, start_s: float, step_s: float, *, backwards: bool = False) -> Planes:
    """All times of day follow the points of the fourth axis, from `start_s` after midnight (or backwards)."""
    points = max(plane.t for plane in planes) + 1
    result = []
    for plane in planes:
        date, time = _clock(start_s + step_s * (points - 1 - plane.t if backwards else plane.t))
        values = {"AcquisitionDate": date, "ContentDate": date, "AcquisitionTime": time, "ContentTime": time}
        result.append(
            plane.edited(lambda ds, v=values: (without("AcquisitionDateTime")(ds), setting(**v)(ds)))
        )
    return result


def _midnight(planes: Planes, random: Random) -> Planes:
    points = points_of(planes)
    step = float(random.choice([1.5, 2.0, 60.0]))
    before = int(random.integers(1, points))
    return timed(planes, 86400 - step * before + 0.25, step)


def over_midnight(planes: Planes, random: Random) -> Planes:
    """The scan passes midnight; dates go with the times."""
    return _midnight(planes, random)


def over_midnight_without_dates(planes: Planes, random: Random) -> Planes:
    """The scan passes midnight, and dates are gone."""
    gone = without("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate", "InstanceCreationDate")
    return [plane.edited(gone) for plane in _midnight(planes, random)]


def over_midnight_alone(planes: Planes, random: Random) -> Planes:
    """The scan passes midnight without dates, and nothing else speaks of its order."""
    keep = {"AcquisitionTime", "ContentTime"}
    gone = without(*(name for name in TEMPORAL if name not in keep), "StudyDate")
    return [
        plane.edited(lambda ds: (gone(ds), ds.remove_private_tags())) for plane in _midnight(planes, random)
    ]


def dates_missing(planes: Planes, random: Random) -> Planes:
    """Dates are gone from all files or from some."""
    places = {plane.z for plane in planes} if random.random() < 0.5 else some(planes, random)
    gone = without("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate", "AcquisitionDateTime")
    return at(planes, places, gone)


def temporal_tag_removed(planes: Planes, random: Random) -> Planes:
    """One of the elements that speak of time or order is gone, from all files or from some."""
    name = str(random.choice(TEMPORAL))
    places = {plane.z for plane in planes} if random.random() < 0.6 else some(planes, random)
    return at(planes, places, without(name))


def temporal_tags_removed(planes: Planes, random: Random) -> Planes:
    """Nothing speaks of time or order any more, and file names follow no order."""
    gone = without(*TEMPORAL)
    return files_renamed(
        [plane.edited(lambda ds: (gone(ds), ds.remove_private_tags())) for plane in planes], random
    )


def times_against_positions(planes: Planes, random: Random) -> Planes:
    """Temporal positions count one way, times of day the other."""
    points_of(planes)
    return [
        plane.edited(setting(TemporalPositionIdentifier=plane.t + 1))
        for plane in timed(planes, 36000, 2.0, backwards=True)
    ]


def one_time_for_all(planes: Planes, random: Random) -> Planes:
    """All files have one time of day and one temporal position, as after de-identification."""
    values = setting(
        AcquisitionTime="000000", ContentTime="000000", AcquisitionDate="19000101", ContentDate="19000101",
        TemporalPositionIdentifier=1,
    )  # fmt: skip
    return [plane.edited(values) for plane in planes]


def times_in_order(planes: Planes, random: Random) -> Planes:
    """Times of day follow the points within one day, and numbers with them."""
    points_of(planes)
    places = len({plane.z for plane in planes})
    return [
        plane.edited(setting(InstanceNumber=plane.t * places + plane.z + 1))
        for plane in timed(planes, 36000, 2.0)
    ]
