"""One volume from its files to a staged array, in worker processes under a memory budget."""
