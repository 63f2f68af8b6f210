"""The patch cache: built in one pass over each volume, verified, read memory-mapped, loaded in batches."""
