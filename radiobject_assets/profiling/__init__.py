"""What a volume is like in numbers: values, foreground, classes, quality, and how to know it again.

Here belongs what is computed from voxels once and kept beside the store, what is found by comparing such
profiles (outliers, near twins), and how they are kept. What a person reads of it is made in `curation`.
"""
