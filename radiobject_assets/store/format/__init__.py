"""The rules of docs/format.md: where things are, how volumes come to exist, snapshots, deletion, upkeep."""
