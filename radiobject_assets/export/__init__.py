"""Out of the store again: NIfTI, BIDS, and what a store holds in words."""
