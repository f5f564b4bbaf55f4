"""Drivers of layerfs, found through the entry-point group `layerfs.snapshotters`."""
