"""Data sets that read straight from volumes: images, segmentations, TorchIO subjects, their loaders."""
