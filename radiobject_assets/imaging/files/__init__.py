"""Files and archives before anybody knows what they hold: members, bounds, names, and what is unreadable."""
