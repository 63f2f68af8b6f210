"""Who is trained on and who is tested on: subjects to splits.

What is divided is units: subjects that share a group (`training.split_units`), else each subject for
itself. A unit is placed by a keyed hash, so the result depends on nothing that varies between machines or
runs. Rules, in this order:

1. *What is written by hand is law.* A subject of the hand-made table has its split, and so has its unit.
2. *Placed once, placed for good.* A unit with a subject whose place in the `previous` table is firm goes
   there. A place is firm as soon as training can use the subject: before that nothing was trained on it, and
   it may move once, when its labels come, so that each split gets its share of what training can use.
3. *Small cohorts are balanced* (`training.split_balance`): new units fill what is furthest below its share,
   stratum by stratum. A pure hash leaves a 15 % split of eight subjects empty one time in four.
4. *Large cohorts need no memory.* From then on, a new unit's split follows from (seed, name) alone: two
   sites that know the same subject agree without exchanging tables.

No rule that looks only at the present subjects can both fill every split and never move anyone: that is why
small cohorts need the `previous` table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from radiobject_assets.dataset.training_section import SplitConfig
from radiobject_assets.errors import AlignmentError, ConfigurationError
from radiobject_assets.training.split_balance import Unit, place_units
from radiobject_assets.training.split_units import units_of

SPLIT_COLUMNS = ("obs_subject_id", "split")
DIVISION_COLUMNS = (*SPLIT_COLUMNS, "is_firm", "is_trainable", "groups")
SHOWN_TOKENS = 10


@dataclass(frozen=True)
class SubjectFacts:
    """What a division looks at of one subject."""

    is_trainable: bool = True
    """Whether training can use it: it has what `patches` in dataset.yaml asks for."""
    groups: tuple[str, ...] = ()
    """Names of its groups: `family=7`."""
    stratum: str = ""
    """Its value of the column that is stratified by."""


@dataclass(frozen=True)
class Division:
    """Subjects divided, and what became of those who were divided before."""

    table: pd.DataFrame
    """`DIVISION_COLUMNS`, sorted by id, one row a subject; `groups` is a JSON list."""
    moved_by_hand: int = 0
    """Subjects with a firm place that the hand-made table put elsewhere."""
    moved_when_usable: int = 0
    """Subjects that training could not use before, and that got another place now that it can."""
    empty: tuple[str, ...] = field(default=())
    """Splits without any subject that training can use."""
    trainable: int = 0
    """Subjects that training can use."""
    trainable_units: int = 0
    """Units (groups, or subjects for themselves) with a subject that training can use."""


def subject_token(subject_id: str, key: bytes = b"") -> str:
    """Names a subject where its id must not stand; without the key nobody can tell the id from it."""
    return hashlib.blake2b(f"subject\0{subject_id}".encode(), digest_size=16, key=key[:64]).hexdigest()


def assign_splits(
    subject_ids: Iterable[str], config: SplitConfig, previous: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Assign every subject to one split.

    Parameters
    ----------
    subject_ids
        Ids in any order and any script; repeats count once.
    config
        Split names with their shares, and the seed.
    previous
        The table of an earlier assignment: columns `obs_subject_id` and `split`. Its subjects stay where
        they are, whatever the config says now. To start afresh (new seed, new fractions), leave it out.

    Returns
    -------
    DataFrame with columns `obs_subject_id` and `split`, sorted by id, one row for each of `subject_ids`. In
    a small cohort no split stays empty while there is a new subject for it.

    Raises
    ------
    AlignmentError
        `previous` has one subject in two splits.
    ConfigurationError
        `previous` names a split that is not in `config`, or `config` asks for what ids alone can't give:
        groups, strata, or a division by hand.
    """
    beyond = [key for key in ("group_by", "stratify_by", "by_hand") if getattr(config, key)]
    if beyond:
        raise ConfigurationError(
            f"assign_splits divides by ids and fractions alone and would ignore "
            f"{' and '.join(f'split.{key}' for key in beyond)}: take the platform's division, the column "
            "`assigned_split` of obs_meta, or make one with "
            "radiobject_assets.curation.divided_snapshot.divide_snapshot"
        )
    facts = dict.fromkeys(subject_ids, SubjectFacts())
    return divide_subjects(facts, config, previous).table[list(SPLIT_COLUMNS)]


def divide_subjects(
    facts: Mapping[str, SubjectFacts],
    config: SplitConfig,
    previous: pd.DataFrame | None = None,
    by_hand: Mapping[str, str] | None = None,
    token: Callable[[str], str] = subject_token,
) -> Division:
    """Divide subjects by groups, strata and what training can use; see the module.

    Parameters
    ----------
    facts
        By subject id.
    previous
        The table of an earlier division (`SPLIT_COLUMNS`, `is_firm` and `groups` where it has them), with
        everybody who was ever in it: who is gone still holds the place of their family.
    by_hand
        Splits by subject id, as the hand-made table says.
    token
        Names subjects in errors.

    Raises
    ------
    AlignmentError
        `previous` has one subject in two splits.
    ConfigurationError
        A table names a split that is not in `config`, or subjects that belong together are in two splits:
        those who came first were divided before anything said that they belong together. Moving one without
        a word would make a tested subject a trained one.
    """
    shares, hand = config.shares, dict(by_hand or {})
    before = _previous(previous, shares)
    _check_names(hand.values(), shares, "the table of split.by_hand")
    groups = {subject: before[subject].groups for subject in before.keys() - facts.keys()}
    groups |= {subject: one.groups for subject, one in facts.items()}
    units = units_of(groups)
    law = _law(units, hand, before, token)
    placed: dict[str, str] = {}
    for pool in (True, False):  # what training can use first: the rest only has to be somewhere
        placed |= _place_pool(pool, units, facts, law, before, config)
    unit_of = {subject: unit for unit, members in units.items() for subject in members}
    ids = sorted(facts)
    split = {subject: placed[unit_of[subject]] for subject in ids}
    old = {subject: before[subject] for subject in ids if subject in before}
    moved = [subject for subject, one in old.items() if one.split != split[subject]]
    usable = {unit_of[subject] for subject in ids if facts[subject].is_trainable}
    filled = {split[subject] for subject in ids if facts[subject].is_trainable}
    firm = [
        unit_of[i] in usable or i in hand or (i in old and old[i].is_firm) or unit_of[i] in law for i in ids
    ]
    table = pd.DataFrame(
        {
            "obs_subject_id": pd.Series(ids, dtype="str"),
            "split": pd.Series([split[subject] for subject in ids], dtype="str"),
            "is_firm": pd.Series(firm, dtype="bool"),
            "is_trainable": pd.Series([facts[subject].is_trainable for subject in ids], dtype="bool"),
            "groups": pd.Series([json.dumps(facts[subject].groups) for subject in ids], dtype="str"),
        },
        columns=list(DIVISION_COLUMNS),
    )
    return Division(
        table,
        moved_by_hand=sum(before[subject].is_firm for subject in moved),
        moved_when_usable=sum(not before[subject].is_firm for subject in moved),
        empty=tuple(name for name in shares if name not in filled),
        trainable=sum(one.is_trainable for one in facts.values()),
        trainable_units=len(usable),
    )


@dataclass(frozen=True)
class _Place:
    split: str
    is_firm: bool
    groups: tuple[str, ...]


def _previous(previous: pd.DataFrame | None, shares: Mapping[str, float]) -> dict[str, _Place]:
    if previous is None or previous.empty:
        return {}
    rows = previous.reset_index()
    twice = int(rows[list(SPLIT_COLUMNS)].drop_duplicates()["obs_subject_id"].duplicated().sum())
    if twice:
        raise AlignmentError(
            f"the previous split table has {twice} subjects in more than one split; repair it first"
        )
    _check_names(rows["split"].astype(str), shares, "the previous split table")
    # an older table says nothing of this: whoever is in it may have been trained on
    firm = rows["is_firm"].fillna(value=True) if "is_firm" in rows else [True] * len(rows)
    groups = rows["groups"].fillna("[]") if "groups" in rows else ["[]"] * len(rows)
    return {
        str(subject): _Place(str(split), bool(is_firm), tuple(json.loads(names)))
        for subject, split, is_firm, names in zip(
            rows["obs_subject_id"], rows["split"], firm, groups, strict=True
        )
    }


def _check_names(named: Iterable[str], shares: Mapping[str, float], where: str) -> None:
    unknown = sorted(set(named) - set(shares))
    if unknown:
        raise ConfigurationError(
            f"{where} names {', '.join(unknown)}, but `split` in dataset.yaml has {', '.join(shares)}; keep "
            "these names, or raise split.division to divide everybody anew"
        )


def _law(
    units: Mapping[str, Sequence[str]],
    hand: Mapping[str, str],
    before: Mapping[str, _Place],
    token: Callable[[str], str],
) -> dict[str, str]:
    """By unit, the split that it has by hand, or by what was trained on before."""
    found: dict[str, str] = {}
    torn: list[Sequence[str]] = []
    for unit, members in units.items():
        ruled = {hand[subject]: subject for subject in members if subject in hand} or {
            before[subject].split: subject
            for subject in members
            if subject in before and before[subject].is_firm
        }
        if len(ruled) > 1:
            torn.append(sorted(ruled.values()))
        elif ruled:
            (found[unit],) = ruled
    if torn:
        listed = "; ".join(", ".join(map(token, members)) for members in torn[:SHOWN_TOKENS])
        more = f" and {len(torn) - SHOWN_TOKENS} more" if len(torn) > SHOWN_TOKENS else ""
        raise ConfigurationError(
            f"{len(torn)} group(s) of subjects that belong together (split.group_by) are in more than one "
            f"split, for example those of the subjects {listed}{more}. Nobody is moved without a word: "
            "put all subjects of such a group into one split in the table of split.by_hand, and count what "
            "was trained before as seen"
        )
    return found


def _place_pool(
    trainable: bool,
    units: Mapping[str, Sequence[str]],
    facts: Mapping[str, SubjectFacts],
    law: Mapping[str, str],
    before: Mapping[str, _Place],
    config: SplitConfig,
) -> dict[str, str]:
    """Splits of the units with a subject that training can use, or of those without."""
    new: list[Unit] = []
    placed: list[tuple[Unit, str]] = []
    for name, members in units.items():
        present = [subject for subject in members if subject in facts]
        usable = [subject for subject in present if facts[subject].is_trainable]
        if not present or bool(usable) is not trainable:
            continue
        strata: dict[str, int] = {}
        for subject in usable or present:
            strata[facts[subject].stratum] = strata.get(facts[subject].stratum, 0) + 1
        unit = Unit(name, strata)
        stays = _provisional(members, before) if not trainable else None
        if (split := law.get(name, stays)) is not None:
            placed.append((unit, split))
        else:
            new.append(unit)
    chosen = place_units(new, placed, config.shares, config.seed)
    return {**{unit.name: split for unit, split in placed}, **chosen}


def _provisional(members: Collection[str], before: Mapping[str, _Place]) -> str | None:
    splits = {before[subject].split for subject in members if subject in before}
    return splits.pop() if len(splits) == 1 else None
