"""The Dagster layer: assets, checks, automation, and a pass without a daemon."""
