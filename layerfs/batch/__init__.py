"""Plain entries of a tar, written to an open directory many at a call, in C. It knows nothing of layerfs.

Most entries of most tars are regular files and symlinks that need nothing but their header. What needs more is left to
the caller, who has the rules.
"""
