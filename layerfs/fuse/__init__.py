"""pyfuse3 and trio: a FUSE request in, one call of the union, an answer out."""
