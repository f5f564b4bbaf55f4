"""OCI images: layer tars in and out, image layouts, registries. What comes in here is a stranger's.

    digest streams            names of content; bytes decompressed and hashed on both sides
    header pax sparse tar     a tar, entry by entry
    apply resolve links       what a layer means, whatever the order of its entries
    target directory dress    the tree that a layer is written to

Libraries, with what they cost on one real layer (384 MB, 36,000 entries; CPU seconds):

- tar: our own parser (0.2). tarfile needs 0.9 and is silently wrong: it ends at a bad header, cuts times to a float
  and lets a PAX record's length lie. libarchive needs 0.6, the system's library, and reports fewer faults than we must.
- gzip: isal (0.36; the standard library's zlib 0.83). `decompressobj` ends after one member: `streams` reads all.
- zstd: backports.zstd (0.27), which is the standard library's from 3.14 on and tells a truncated frame by `eof`.
  zstandard is a little quicker (0.20) but hands out a truncated stream without a word.
- HTTP: urllib3: pool, TLS and time limits, no dependency of its own. The registry clients for Python miss checks of
  digests, resumption or the rules for credentials.

They are dependencies of the package, not an extra: an image may come compressed in any way that is allowed. All are
imported when they are needed; no mount waits for them.
"""
