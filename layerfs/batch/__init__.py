"""What is done many times at a call, in C: plain entries of a tar written, directories opened and listed.

It knows nothing of layerfs. Most entries of most tars are regular files and symlinks that need nothing but their
header, and most directories hold files, symlinks and directories alone. What needs more is left to the caller, who has
the rules.
"""
