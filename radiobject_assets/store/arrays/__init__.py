"""Voxels in arrays, through two doors: a reader and a writer, each TileDB's own and ours (`doors`)."""
