"""What survives a power cut: a disk that logs what reaches it, and tests that cut its power.

A test works on a real filesystem whose disk is a `Disk`. What a program was told to be on disk is a promise. Afterwards
the power is cut at random moments of what happened, the filesystem is mounted as each cut left it, and every promise
made before the cut must hold. See disk.py; test_upper.py shows how to use it.
"""
