"""A campaign against the store: random work by several processes, disturbed, compared with a plain model.

    python -m tests.store.campaign --seed 1 --kills 200            on a local disk
    python -m tests.store.campaign --seed 1 --kills 50 --s3        on a real S3 server of its own
    python -m tests.store.campaign --seed 1 --damage 1000          files damaged one at a time

How a round goes (`rounds`): programs of operations are drawn (`programs`), child processes run them
through the public API alone (`worker`, `operations`) and tell over a pipe what they begin and what was
done; meanwhile they are killed, stopped, or run out of disk, of descriptors, of time (`disturbances`).
Then a fresh process reads every state (`reading`), and `linear` looks for an order of the operations that
explains it. What no order explains is a failure. Nothing here knows the files of a store; `residue` and
`damage` look into them as bytes.
"""
