"""The version of how headers are read, for who keeps what was read."""

READER = 2
"""Raised whenever a header gives another `Instance`: what was kept of files is then read once more."""
