"""Forgetting people: everything that a data set has of somebody, found, removed, and looked for again.

What belongs here: where traces of a person lie (store, tables, patch caches, pictures, reports, the landing
zone, Dagster's storage), and their removal. What does not: how a store erases rows and voxels
(`store.delete_subjects`), and who is kept out when they come again (`ingest.refused`).
"""
