"""Labels and the image that they were drawn on: found, opened, waited for."""
