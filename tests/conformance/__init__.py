"""containerd's own suite for snapshotters, built from Debian's packages, over our daemon.

suite_test.go    starts a daemon for each case, and hands its snapshotter to the suite
"""
