"""Names of a store's folders and of its key columns."""

OBS_META, COLLECTIONS, OBS, VOLUMES, ROWS = "obs_meta", "collections", "obs", "volumes", "rows"
SUBJECT, OBS_ID = "obs_subject_id", "obs_id"
ASSIGNED_SPLIT, ASSIGNED_DIVISION = "assigned_split", "assigned_division"
"""Columns of obs_meta: the split of a subject that training uses, and which division gave it (1 where there
is no value). No part of a snapshot's digest."""
