"""One mount of a XAR for all callers of a user, as xarexec_fuse has it."""

SERVER = "layerfs-xar"  # the program that whoever stands by is asked for; `ps` shows it
