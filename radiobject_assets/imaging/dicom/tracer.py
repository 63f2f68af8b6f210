"""What was injected for a PET or nuclear medicine image, and the factor that makes SUV of a PET image.

Times of day are used and forgotten: obs gets how long before the scan the tracer was injected. The factor
follows the vendor-neutral pseudo-code of the Quantitative Imaging Biomarkers Alliance ("SUV: Vendor-neutral
pseudo-code for SUV calculation", the branch for images that are whole); where its conditions do not hold,
there is none.
"""

from __future__ import annotations

import math

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.terms import in_terms
from radiobject_assets.imaging.dicom.vendor import Vendor
from radiobject_assets.imaging.dicom.withholding import names_somebody, words_of_identity
from radiobject_assets.imaging.source import AttributeValue

_DAY_S = 86400.0
_GRAMS_PER_KG = 1000.0
_BQ_PER_MBQ = 1e6
# Fewer becquerels were never injected to image anything: the number is in another unit (megabecquerel).
_LEAST_DOSE_BQ = 1e4

COLUMNS = {
    "radiopharmaceutical": "name of the tracer",
    "radionuclide": "coded meaning of the nuclide",
    "injected_activity_bq": "RadionuclideTotalDose, in Bq for nuclear medicine, too",
    "radionuclide_half_life_s": "RadionuclideHalfLife",
    "injection_to_series_s": "from the injection to the time of the series, which decay is corrected to",
    "suv_bw_factor": "SUV by body weight (g/ml) = physical value * this; only where all it needs is known",
}
"""Columns of obs that `tracer_attributes` gives, and what they mean."""


def tracer_attributes(elements: Elements, vendor: Vendor) -> dict[str, AttributeValue]:
    """What the first item of RadiopharmaceuticalInformationSequence says; empty where there is none."""
    item = elements.first(t.RADIOPHARMACEUTICALS)
    if item is None:
        return {}
    words = words_of_identity(elements)
    dose_bq, half_life_s = _positive(item, t.TOTAL_DOSE), _positive(item, t.HALF_LIFE)
    if dose_bq is not None and elements.text(t.MODALITY) == "NM":  # PS3.3 C.8.4.10: megabecquerel
        dose_bq *= _BQ_PER_MBQ
    if dose_bq is not None and dose_bq < _LEAST_DOSE_BQ:
        dose_bq = None
    pharmaceutical = in_terms(t.RADIOPHARMACEUTICAL, item.text(t.RADIOPHARMACEUTICAL)) or _meaning(
        item.first(t.RADIOPHARMACEUTICAL_CODE)
    )
    nuclide = _meaning(item.first(t.RADIONUCLIDE_CODE))
    elapsed_s = _seconds_from_injection(item, elements)
    found: dict[str, AttributeValue] = {
        "radiopharmaceutical": "" if names_somebody(pharmaceutical, words) else pharmaceutical,
        "radionuclide": "" if names_somebody(nuclide, words) else nuclide,
        "injected_activity_bq": dose_bq,
        "radionuclide_half_life_s": half_life_s,
        "injection_to_series_s": elapsed_s,
        "suv_bw_factor": _suv_factor(elements, vendor, dose_bq, half_life_s, elapsed_s),
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def _suv_factor(
    elements: Elements,
    vendor: Vendor,
    dose_bq: float | None,
    half_life_s: float | None,
    elapsed_s: float | None,
) -> float | None:
    if elements.text(t.MODALITY) != "PT":
        return None
    units = elements.text(t.UNITS)
    if units == "GML" and elements.text(t.SUV_TYPE) in ("", "BW"):
        return 1.0
    if units == "CNTS":
        return vendor.suv_factor(elements)
    corrections = elements.text(t.CORRECTED_IMAGE).split("\\")
    weight_kg = _positive(elements, t.PATIENT_WEIGHT)
    if units != "BQML" or not {"ATTN", "DECY"} <= set(corrections) or weight_kg is None or dose_bq is None:
        return None
    reference = elements.text(t.DECAY_CORRECTION)
    if reference == "ADMIN":
        return weight_kg * _GRAMS_PER_KG / dose_bq
    if reference != "START" or half_life_s is None or elapsed_s is None or not _series_is_whole(elements):
        return None
    return weight_kg * _GRAMS_PER_KG / (dose_bq * math.exp2(-elapsed_s / half_life_s))


def _series_is_whole(elements: Elements) -> bool:
    """False where the series' time is later than the acquisition's: it is then that of some processing."""
    series_s, acquisition_s = (
        _time_s(elements.text(t.SERIES_TIME)),
        _time_s(elements.text(t.ACQUISITION_TIME)),
    )
    if series_s is None or acquisition_s is None:
        return False
    dates = elements.text(t.SERIES_DATE), elements.text(t.ACQUISITION_DATE)
    if all(dates) and dates[0] != dates[1]:
        return dates[0] < dates[1]
    return series_s <= acquisition_s


def _seconds_from_injection(item: Elements, elements: Elements) -> float | None:
    injected_s = _time_s(item.text(t.INJECTION_DATE_TIME)[8:14]) or _time_s(item.text(t.INJECTION_TIME))
    series_s = _time_s(elements.text(t.SERIES_TIME))
    if injected_s is None or series_s is None:
        return None
    return (series_s - injected_s) % _DAY_S  # an injection before midnight was on the day before


def _time_s(text: str) -> float | None:
    """Seconds since midnight of a DICOM time (HHMMSS.FFFFFF); None where it is none."""
    try:
        hours, minutes, seconds = int(text[:2]), int(text[2:4] or "0"), float(text[4:] or "0")
    except ValueError:
        return None
    if not (0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds < 61):
        return None
    return hours * 3600 + minutes * 60 + seconds


def _positive(elements: Elements, tag: int) -> float | None:
    value = elements.number(tag)
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _meaning(item: Elements | None) -> str:
    return in_terms(t.RADIOPHARMACEUTICAL, item.text(t.CODE_MEANING)) if item is not None else ""
