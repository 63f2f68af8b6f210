"""A phantom cohort: seeded, deterministic, as untidy as what scanners deliver, with its truth."""
