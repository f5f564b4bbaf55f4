"""One mount of a XAR for all callers of a user, as xarexec_fuse has it."""
