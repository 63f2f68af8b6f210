"""DICOM headers: from the bytes of one file to its `Instance`, and what vendors write differently."""
