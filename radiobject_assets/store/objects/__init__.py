"""What users hold: stores, collections, volumes, data frames, queries; how they are made, copied and read."""
