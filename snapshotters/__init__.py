"""Snapshot drivers that come with layerfs, each found by its entry point in the group `layerfs.snapshotters`.

A package of its own, beside layerfs, because drivers are loaded by name: another project's driver comes in by the same
door. What a driver must do is in `layerfs.snapshots.driver`.
"""
