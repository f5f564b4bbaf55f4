"""What a mount promises, point by point, on real FUSE mounts of layerfs: as root and as a person without.

Every test runs in a child process (conftest.py), as the person when it is about them: a mount that hangs is cut off
after LIMIT seconds and fails its test alone.
"""
