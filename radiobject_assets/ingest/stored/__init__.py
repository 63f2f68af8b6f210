"""What the store already holds of the series in a plan, and what becomes of it."""
