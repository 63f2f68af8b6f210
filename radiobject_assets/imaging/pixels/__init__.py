"""Pixel data of DICOM files: which may be decoded, frames, codecs, and the processes that decode."""
