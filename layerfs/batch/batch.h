/* Plain entries of a tar, written to one open directory: read by cffi and by the C behind it. */

/* How far a call came: entries written, bytes of their files, and where in the data the next header is. */
struct batch_done {
    size_t entries;
    size_t next;
    uint64_t bytes;
};

/*
 * Write the entries whose headers begin at `from` and follow each other in `data`, as long as each is a regular file or
 * a symlink in ustar form that needs nothing but its header, whose name is `prefix` and one part more, and all of whose
 * bytes are there. `at` is where they go; `owner` is who we are. places[n] becomes where the n-th header is, `room` bounds
 * them, and `most` the bytes of their files.
 *
 * What is anything else, or cannot be written, is left to the caller, with nothing of it on disk.
 */
void batch_write(
    int at, uint32_t owner, const uint8_t *data, size_t size, size_t from, const uint8_t *prefix, size_t prefix_size,
    uint64_t most, uint32_t *places, size_t room, struct batch_done *done);
