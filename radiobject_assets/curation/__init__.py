"""What a data set is at one moment, as a document: manifests of snapshots, differences, matches, data cards.

All of it reads stores and writes files; nothing here changes a store, and no identifier leaves it.
"""
