"""NIfTI and its neighbours (MGH, NRRD, MetaImage): headers, place, sidecars, BIDS names, voxels."""
