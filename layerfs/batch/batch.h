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

/* What became of a directory that was to be read. */
struct batch_listed {
    int32_t fd;     /* -1: it cannot be opened so */
    int32_t marked; /* it has extended attributes, or they cannot be listed */
    int32_t count;  /* of names; -1: not all are files, symlinks and directories, or they are too many */
};

/* The names of directories, one after the other, each with the NUL that ends it; then a byte for each: 1 for a directory. */
struct batch_names {
    uint8_t *text;
    size_t size, count;
};

/*
 * Open and list directories, without a trace in their access times: the n-th of `names`, which a NUL ends each, in the
 * open directory at[n], or at[n] itself where the name is empty. Nothing is followed. Once one
 * has slept for more than `cold` [ns] the others are read side by side; below 0 nobody has to sleep for that. What was
 * opened is the caller's. 1 if one has slept so, else 0; or -1 without memory, with nothing left open.
 */
int batch_read(
    const int *at, const char *names, size_t count, int64_t cold, struct batch_listed *listed, struct batch_names *found);
void batch_read_free(struct batch_names *found);

/* Threads that look at directories before anybody asks for them; NULL without memory. */
struct batch_ahead;
struct batch_ahead *batch_ahead_start(void);
/* Note that a disk had to be waited for: as long as nobody has to, for some directories in a row, nothing is looked at. */
void batch_ahead_waited(struct batch_ahead *self);
/* Have a directory looked at, by its path below the open directory `root`, which stays open; 0: not now. */
int batch_ahead_ask(struct batch_ahead *self, int root, const char *path);
/* End the threads, and wait for that. */
void batch_ahead_end(struct batch_ahead *self);
