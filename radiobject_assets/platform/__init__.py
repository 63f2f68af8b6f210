"""The Dagster layer: assets, checks, automation, and a pass without a daemon.

Every run's process and every reload of the code server imports the definitions. So what computes (pandas,
TileDB, the store, ingest) is imported in the function that computes: 0.1 s of CPU after Dagster's 1.0, and
not 2.9. tests/foundation/test_imports.py keeps it so.
"""
