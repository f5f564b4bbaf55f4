"""The snapshotter backend of containerd and buildkitd: gRPC in, one call of the store, an answer out.

    containerd -- unix socket --> server -- one method an RPC --> snapshots, diffs --> layerfs.snapshots, layerfs.oci

`messages` has the wire format, `requests` reads what a client sent within bounds, `status` turns errors into gRPC's.
The room needs the extra `layerfs[daemon]` (grpcio and what belongs to it, prometheus-client).
"""
