"""Ways to keep the store's rows, side by side: what `docs/design/001-one-commit-log.md` was chosen by.

Small honest prototypes behind one door (`design.Design`), none of them a part of the product:

1. `rows` makes rows as an ingest makes them;
2. `narrow` (TileDB), `segments` (Parquet or Arrow files and a manifest), `delta`, `lance` and `whole_store`
   (the store as it is, by its public API) keep them;
3. `speed` times them in turns, `s3_requests` counts requests, `robustness` kills, pauses and damages them.
"""
