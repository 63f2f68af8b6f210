"""What files are called: subjects, visits, contrasts and kinds in names, and doubts about them."""
