"""What leaves the world of images: the one door for texts and identifiers."""
