"""Names of a store's folders and of its key columns."""

OBS_META, COLLECTIONS, OBS, VOLUMES, ROWS = "obs_meta", "collections", "obs", "volumes", "rows"
SUBJECT, OBS_ID = "obs_subject_id", "obs_id"
ASSIGNED_SPLIT = "assigned_split"
"""Column of obs_meta: the split of a subject that training uses. No part of a snapshot's digest."""
