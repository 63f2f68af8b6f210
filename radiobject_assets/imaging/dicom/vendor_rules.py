"""All that is taken for granted of vendors' headers, and what that rests on.

Each vendor's rules stand in its module (`vendors`), those of all vendors here. Frames name the rule by which
their gradient directions were understood (`Frame.direction_rule`); obs says it, and says where a rule rests
on nothing. docs/reference/evidence.md is made from this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from radiobject_assets.imaging.dicom.vendor import VendorRule
from radiobject_assets.imaging.dicom.vendors import VENDORS
from radiobject_assets.imaging.source import AttributeValue

_OF_ALL: Final = (
    VendorRule(
        "orientation-enhanced",
        "any",
        "DiffusionGradientOrientation (0018,9089) of an enhanced object is in patient coordinates.",
        "real file",
        "PS3.3 C.8.13.5.9; Philips enhanced diffusion (reference data, slices not tilted) against dcm2niix",
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
        "hitachi-hyperfine",
        "Hitachi, Hyperfine",
        "Nothing beyond the standard is read.",
        "standard",
        "geometry and voxels of one anatomical series each (reference data) against dcm2niix",
    ),
)

RULES: Final = (*_OF_ALL, *(rule for vendor in VENDORS for rule in vendor.rules))
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
    known = sorted({name for name in names if name})
    if not known:
        return {}
    unproved = [RULE[name] for name in known if RULE[name].rests_on == "nothing"]
    told: dict[str, AttributeValue] = {"b_vectors_rule": " ".join(known)}
    if unproved:
        told["b_vectors_unproved"] = "; ".join(f"not known: {rule.source}" for rule in unproved)
    return told
