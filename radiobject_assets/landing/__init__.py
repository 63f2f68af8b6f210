"""Landing zones: the folders, archives and prefixes that arrivals come in."""
