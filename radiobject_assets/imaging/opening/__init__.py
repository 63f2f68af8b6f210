"""From a series to its voxels: sources that decode in slabs, from archives too."""
