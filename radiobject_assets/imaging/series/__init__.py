"""Instances become series with a verdict each: what headers prove, image series, label series."""
