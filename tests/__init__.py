"""Tests of layerfs, one folder a room; `tests.ROOM` so that modules of two rooms may bear one name."""
