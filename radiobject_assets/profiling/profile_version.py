"""The version of profiles, by itself: it is read wherever Dagster loads its definitions."""

PROFILE_VERSION = "1"
"""Another one, and every volume is profiled anew: raise it when figures or thumbnails are made otherwise."""
