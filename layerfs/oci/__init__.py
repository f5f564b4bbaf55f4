"""OCI images: layer tars in and out, image layouts, registries. What comes in here is a stranger's.

ARCHITECTURE.md lists the modules by subject: bytes, tars, the rules of layers, targets, documents, stores, registries.

`layer.apply_layer`, `layer.pack_layer` and `produce.produce_layer` are what other rooms call. XARs are extracted by a
writer of their own (xar/extract.py): an image is a finished tree, walked once from the top, whose flaws are left out
one by one; a tar is a stream in any order, with deletions, of which all counts or nothing. Both write through `sys`.

Libraries, with what they cost on one real layer (384 MB, 36,000 entries; CPU seconds):

- tar: our own parser (0.2). tarfile needs 0.9 and is silently wrong: it ends at a bad header, cuts times to a float
  and lets a PAX record's length lie. libarchive needs 0.6, the system's library, and reports fewer faults than we must.
- gzip: isal (0.36; the standard library's zlib 0.83). `decompressobj` ends after one member: `streams` reads all.
- zstd: backports.zstd (0.27), which is the standard library's from 3.14 on and tells a truncated frame by `eof`.
  zstandard is a little quicker (0.20) but hands out a truncated stream without a word.
- HTTP: urllib3: pool, TLS and time limits, no dependency of its own. The registry clients for Python miss checks of
  digests, resumption or the rules for credentials.

What a layer in a directory costs (CPU seconds on tmpfs, a busy machine, medians of 5): a Debian root filesystem of
248 MB and 11,800 entries 0.94 from gzip and 0.85 from zstd; ten layers of 2,700 files of at most 4 KiB 0.41. Of the
first, inflate is 0.36, the DiffID 0.20, the blob's digest 0.06 (left out for a blob that was hashed just now), system
calls 0.25.

- Plain entries (83 of 100 there) are written by C, many at a call (`batches`). In Python the three were 1.03, 0.96 and
  0.74. It leaves out the fchown and fchmod that would change nothing, too.
- A plain layer is hashed once, not twice.
- What is left to Python are directories, files that lie across two pieces of 256 KiB, and all that is odd.

They are dependencies of the package, not an extra: an image may come compressed in any way that is allowed. All are
imported when they are needed; no mount waits for them.
"""
