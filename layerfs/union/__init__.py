"""Overlay semantics over directory descriptors: synchronous, no FUSE, no threads."""
