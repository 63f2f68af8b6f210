"""The rows of a store as one log of commits.

    <root>/state.json                    a copy of the newest manifest, to find it quickly
    <root>/log/<hundred>/<number>.json  manifests: one for each commit, never changed
    <root>/<table>/<base>-<token>.parquet  segments: the rows that a commit put or deleted, never changed

A *manifest* names, for every table, its segments in order, with their checksums: together they are the
*state* of the store. A commit writes its segments first and then publishes the next manifest, if nobody
published one of that number before (`Storage.publish`); who comes second retries on the newer state
(optimistic concurrency). So commits are atomic and ordered, on local disks and on S3, and no lock has to be
waited for.
"""
