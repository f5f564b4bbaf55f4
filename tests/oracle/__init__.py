"""The oracle: the same layers and operations on kernel overlayfs and on layerfs, compared.

trees.py       layers as literals; building them; reading a whole tree back
agent.py       one child process per mount that performs operations, so that a hang is a timeout
operations.py  the operations themselves
subjects.py    who serves a mount: kernel overlayfs, layerfs, fuse-overlayfs
known.py       the legitimate differences, each with its reason
world.py       one example: build twice, mount twice, operate, compare, read the uppers crosswise
strategies.py  random layers and operations
"""
