"""Stores that the RadiObject package wrote, read in their place."""
