"""Speed and memory, side by side with peers. Nothing here is imported by the package or run by the tests."""
