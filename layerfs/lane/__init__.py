"""FUSE requests answered natively, from tables: C that stands at the device, on the thread of whoever calls it.

It knows nothing of overlays. Whoever serves a filesystem hands over answers (`Lane.directory`) and withdraws them. A
request that they do not answer is put on a socket pair, for a FUSE library that believes to have the device there.
"""
