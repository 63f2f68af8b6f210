"""Any tree of files becomes records, once each: what every file is, by its content."""
