"""FUSE requests answered natively, from tables: C that stands at the device, on the thread of whoever calls it.

It knows nothing of overlays. Whoever serves a filesystem hands over answers (`Lane.directory`) and withdraws them. A
request that they do not answer is handed to a FUSE library: in memory, or on a socket pair that it takes for the
device.
"""
