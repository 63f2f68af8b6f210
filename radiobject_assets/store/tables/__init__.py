"""Tables over the commit log: columns read when asked for, filters, rows written by key."""
