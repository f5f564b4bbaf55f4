"""The real thing on real layerfs mounts: package managers, databases, compilers and container engines."""
