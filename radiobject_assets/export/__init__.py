"""Out of the store again: NIfTI, BIDS, nnU-Net, and what a store holds in words."""
