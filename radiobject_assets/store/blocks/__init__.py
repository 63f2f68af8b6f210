"""Tiles as bytes: how voxels become those of TileDB's format and an index of them, and how they come back.

Pure functions of bytes and arrays. Nothing here knows where bytes are kept: no URI, no file, no TileDB.
"""
