"""What the machine gives: temporary folders, files that are written whole, memory, processors."""
