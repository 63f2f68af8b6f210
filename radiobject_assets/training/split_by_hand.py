"""The division that somebody wrote by hand: a table of subjects with their split or fold."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from radiobject_assets.errors import ConfigurationError

ID_COLUMNS = ("subject", "obs_subject_id", "subject_id", "participant_id")
SPLIT_COLUMNS = ("split", "fold")


def read_division_by_hand(path: Path, splits: Collection[str]) -> dict[str, str]:
    """The splits that a table gives, by subject id.

    Parameters
    ----------
    path
        Commas or semicolons (`.csv`), else tabs. One column with the subject (`ID_COLUMNS`) and one with the
        split (`split`, `fold`); a number `3` is `fold_3` where there are folds. Empty splits say nothing.
    splits
        Names that there are.

    Raises
    ------
    ConfigurationError
        The file is absent or no such table, names a split that is not there, or a subject twice. No message
        names a subject.
    """
    where = f"split.by_hand ({path.name})"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{where}: there is no such file beside dataset.yaml; write it, or remove the key"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where}: can't be read as UTF-8 text ({type(error).__name__})") from error
    heading = text.partition("\n")[0]
    separator = max("\t;,", key=heading.count)
    try:
        rows = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ConfigurationError(f"{where}: not a table ({type(error).__name__})") from error
    rows.columns = [str(name).strip().lower() for name in rows.columns]
    subject = next((name for name in ID_COLUMNS if name in rows), None)
    split = next((name for name in SPLIT_COLUMNS if name in rows), None)
    if subject is None or split is None:
        raise ConfigurationError(
            # what stands in its first line is not told: without headings it names subjects
            f"{where}: needs a column `subject` and a column `split` (or `fold`)"
        )
    found: dict[str, str] = {}
    for line, (name, value) in enumerate(zip(rows[subject], rows[split], strict=True), start=2):
        name, value = name.strip(), value.strip()
        if not value:
            continue
        value = f"fold_{value}" if value.isdigit() and f"fold_{value}" in splits else value
        if not name:
            raise ConfigurationError(f"{where}, line {line}: a split without a subject")
        if value not in splits:
            raise ConfigurationError(f"{where}, line {line}: no such split; use {', '.join(splits)}")
        if found.setdefault(name, value) != value:
            raise ConfigurationError(f"{where}, line {line}: this subject has another split above")
    return found
