"""What is right and wrong with a store: rules and measurements as plain functions."""
