"""Tests of layerfs.plan."""
