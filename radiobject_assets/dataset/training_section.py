"""`split` and `patches` of dataset.yaml: how subjects are divided, which patches are cut."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from radiobject_assets.dataset.section import COLLECTION_NAME, Section


class SplitConfig(Section):
    """How subjects are divided: by a keyed hash of their ids; whom training used once never moves."""

    fractions: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: {"train": 0.7, "validation": 0.15, "test": 0.15}
    )
    """Share of the subjects in each split; the shares sum to 1."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """In place of `fractions`: equal folds for cross-validation, `fold_0`, `fold_1`..."""
    hold_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """With `folds`: the share of the subjects that no fold gets; it is the split `test`."""
    group_by: list[str] = Field(default_factory=list)
    """Columns of the subjects' table or of obs (`family`, `site`): subjects that share a value of one of
    them go into one split."""
    stratify_by: str | None = None
    """A column of the subjects' table or of obs (`diagnosis`): each of its values is divided by the same
    shares. Values that fewer subjects have than there are splits are taken together."""
    by_hand: str | None = None
    """A table beside this file (`.csv` or `.tsv`, columns `subject` and `split` or `fold`): whoever stands
    in it has that split, whatever else is said here."""
    seed: int = 7
    """Another seed divides those otherwise who were not placed yet."""
    division: Annotated[int, Field(ge=1)] = 1
    """A higher number forgets how subjects were divided and divides all anew, by new shares or another seed.
    Whoever was trained on may then be tested on: models of before are not to be compared."""

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            if not COLLECTION_NAME.fullmatch(name):
                raise ValueError(f"split name {name!r}: use small letters, digits and _")
        if not value or abs(sum(value.values()) - 1.0) > 1e-6:
            raise ValueError(f"fractions sum to {sum(value.values()):g}; they must sum to 1")
        return value

    @model_validator(mode="after")
    def _folds_or_fractions(self) -> SplitConfig:
        if self.folds is not None and "fractions" in self.model_fields_set:
            raise ValueError("give `fractions` or `folds` (with `hold_out` for a test set), not both")
        if self.hold_out is not None and self.folds is None:
            raise ValueError("`hold_out` goes with `folds`; else give `fractions` a split `test`")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Share of the subjects by split, in order: the fractions, or the folds and what they hold out."""
        if self.folds is None:
            return self.fractions
        held = {} if self.hold_out is None else {"test": self.hold_out}
        part = (1.0 - sum(held.values())) / self.folds
        return {**{f"fold_{number}": part for number in range(self.folds)}, **held}


class PatchesConfig(Section):
    """Which patches the patch cache holds."""

    image: str
    """Image collection that patches are cut from."""
    labels: str | None = None
    """Label collection cut at the same place; also what foreground sampling looks at."""
    point: str | float | None = None
    """Of images with a fourth axis the one point to cut, by its entry in obs `fourth_axis_values`: the name
    of a channel (`FLAIR`), or a number. Without it each patch is of a point that is drawn."""
    size_voxels: tuple[
        Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
    ] = (64, 64, 64)
    """Patch extents along columns, rows and slices."""
    per_volume: Annotated[int, Field(ge=1)] = 8
    """Patches from each volume."""
    foreground_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of the patches that are centred on a labelled voxel; needs `labels`."""
    seed: int = 7
    """Another seed gives other places."""

    @model_validator(mode="after")
    def _foreground_needs_labels(self) -> PatchesConfig:
        if self.foreground_fraction > 0 and self.labels is None:
            raise ValueError("`foreground_fraction` above 0 needs `labels`")
        return self
