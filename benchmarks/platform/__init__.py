"""What the platform costs with many arrivals and series: simulated histories on a real Dagster instance."""
