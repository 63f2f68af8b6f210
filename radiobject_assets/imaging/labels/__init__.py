"""Labels on the voxels of their image: placed, resampled, turned, filled; functions of arrays and grids."""
