/* What Python sees of the lane: cffi's parser reads this file as it is. Every call is for one thread at a time. */

typedef struct lane lane;

/* What `lane_wait` returns beside 0 (the time is over, or a signal came) and -errno. */
enum lane_event {
    LANE_REQUEST = 1, /* one request is on the pair, for whoever reads its other end */
    LANE_OTHER = 2,   /* `other` is readable, or, with a `job`, a request waits that is for nobody here */
    LANE_JOB = 3,     /* `job` is readable, and nothing else is */
    LANE_SLOW = 4,    /* answers wait for a disk: lane_slow says where */
    LANE_RAW = 5,     /* a request is here that libfuse does not serve: lane_raw takes it */
    LANE_WRITE = 6,   /* a WRITE is here: answer it by lane_written, or wait again, which passes it on like any other */
    LANE_LIST = 7     /* a listing is asked for of a directory that is not at hand (lane_listing): hand it over, if that
                       * can be, and wait again, which answers or passes it on */
};

/* An inode that the lane has answered for, on its way to somebody else. `fd` is -1 unless `opens` is above 0, and may be
 * so then: nobody has asked for the data yet. */
typedef struct {
    uint64_t parent, lookups, device, number;
    uint32_t mode, uid, gid, opens;
    int fd;
    uint8_t stored, written, gone, size; /* written: `fd` is open for writing, too; gone: it holds on to what has no name */
    char name[255];
} lane_taken;

/* A WRITE: `size` bytes at `offset` of what `fh` stands for. */
typedef struct {
    uint64_t fh, offset;
    uint32_t size;
    const char *data; /* good until the next call */
} lane_write;

/* Return a lane between `device` and `pair`, both non-blocking and the caller's; NULL without memory. Without a pair (-1)
 * every request for others is told of by LANE_RAW. `room` [bytes] is that of the largest message; the kernel may keep
 * answers for `seconds` and `nanoseconds`; `files` are open at most. Requests are counted in `met`, the caller's, too. */
lane *lane_open(int device, int pair, size_t room, uint64_t seconds, uint32_t nanoseconds, uint32_t files,
                uint64_t *met);
void lane_close(lane *self);
/* Open so many files at most from now on; what is open stays. */
void lane_set_files(lane *self, uint32_t files);
/* Put what is for others on a pair from now on. */
void lane_set_pair(lane *self, int pair);

/* Answer requests until one is for somebody else, or `other` or `job` (-1: none) is readable, or `milliseconds` are over
 * (-1: never). With `spin` it may look for a moment before it sleeps, or sleep where its client is (pace.c). */
int lane_wait(lane *self, int other, int job, int milliseconds, int spin);
/* Say what is to be written, after LANE_WRITE; 0 when there is nothing. */
int lane_writing(lane *self, lane_write *write);
/* Answer it: an errno or 0, and how many bytes were written. */
void lane_written(lane *self, int error, uint32_t size);
/* Return the directory of which a listing is asked for, after LANE_LIST. */
uint64_t lane_listing(const lane *self);
/* Give the kernel what was answered on the pair. */
int lane_relay(lane *self);
/* Take a request that was read before, and that is for others; -EBUSY: there is one already. One that is larger than a
 * message may be fails. */
int lane_hold(lane *self, const char *message, size_t size);
/* Say which opcodes LANE_RAW tells of, a bit for each; for every lane of this process. */
void lane_set_raw(uint64_t opcodes);
/* Take the request that LANE_RAW told of: its size, and where it is until the next wait; 0 for none. */
size_t lane_raw(lane *self, const char **message);
/* Hand requests to libfuse in memory from now on, instead of on the pair, whose other end `fd` it has: 1, or 0 where it does
 * not let us. Before the first one was passed on. Answers are written from where libfuse has them, however large they are;
 * requests have at most `room`, which the device is read with. */
int lane_in_memory(lane *self, int fd);
/* Have the kernel open files by itself: each OPEN is answered with ENOSYS, and a READ needs no handle. Only where nothing
 * can be written. */
void lane_no_open(lane *self);
/* FUSE over io_uring. Open a ring for messages whose data have up to `payload` bytes: 1, or 0 where that cannot be. Before
 * FUSE_INIT is answered; by the thread that calls all else. */
int lane_ring_open(lane *self, size_t payload);
/* Have requests come over the ring from now on; right after FUSE_INIT was answered so: 1; 0 where they come over the
 * device; -EIO where they come over neither. */
int lane_ring_register(lane *self);
void lane_ring_close(lane *self);
/* How many requests came over the ring. */
uint64_t lane_ring_met(const lane *self);
/* Tell whether requests come over the ring. */
int lane_ring_lives(const lane *self);
/* The epoll that the ring watches; -1 if there is none. */
int lane_ring_events(const lane *self);
/* Have an eventfd told when something is there, for who does not sleep in a wait: poll(2) of a ring tells that too late. */
int lane_ring_tell(lane *self, int eventfd);
/* Answer a request that was raw or held elsewhere, by an errno or a body, wherever it came from. Errors are -errno. */
int lane_reply(lane *self, uint64_t unique, int error, const char *body, size_t size);

/* How many requests were put on the pair and are not answered. */
uint32_t lane_outstanding(const lane *self);
/* When the last request was met [ns, CLOCK_MONOTONIC]. */
int64_t lane_last(const lane *self);
/* How the next request is waited for, where `spin` leaves the choice: asleep, looking for it, or asleep on the processor
 * of whoever has asked last. */
enum lane_way { LANE_SLEEPS, LANE_LOOKS, LANE_BESIDE };
int lane_way_now(const lane *self);
/* Note how long [ns] a request took to come, as if it had been met, and which thread waits for a LOOKUP (0: none). */
void lane_came(lane *self, int64_t gap, uint32_t thread);
/* Return a number that the lane answers for; 0 if there is none. */
uint64_t lane_any(const lane *self);

/* Tables. Errors are -errno. */

/* Rank the filesystem `device`: the numbers of its inodes begin with that. */
int lane_rank(lane *self, uint64_t device, uint32_t rank);
/* Who answers for an image, in which an object has a reference: functions that are given `of`. They give less than 0 where
 * others must look, and never wait for long. `stat` fills a `struct stat`, except st_dev, and gives 1 where there are
 * extended attributes, else 0. `link` gives the length of a symlink's target, at most `room`. `read` gives how many bytes
 * there were, fewer at the end of the file; it is NULL where others read. */
typedef struct {
    void *of;
    int64_t (*stat)(void *of, uint64_t reference, void *status);
    int64_t (*link)(void *of, uint64_t reference, char *target, uint32_t room);
    int64_t (*read)(void *of, uint64_t reference, uint64_t offset, void *data, uint32_t size);
} lane_source;
/* Have a source answer, whose numbers begin with `rank`. `share` is what stands for it among the descriptors of shares,
 * `device` what its objects are said to be on. */
int lane_source_add(lane *self, const lane_source *calls, uint32_t rank, int *share, uint64_t *device);
/* Hand over a whole directory: `names` ends each with a NUL; `places` says for each where it is: the index of a share
 * of this directory, with LANE_DIRECTORY for a directory in that share, or LANE_ASK. `shares` are their descriptors, or
 * sources; `references` are those of all names, or NULL. */
enum lane_place { LANE_ASK = 0x7fffffff, LANE_GONE = 0x7ffffffe, LANE_DIRECTORY = 0x40000000 };
int lane_directory(lane *self, uint64_t directory, uint64_t parent, const char *names, size_t size,
                   const uint32_t *places, uint32_t count, const int *shares, uint32_t shares_count,
                   const uint64_t *references);
/* Say whose attributes a directory shows: those of a share, with one link unless the share is `single`, while its mode
 * and owner are these. With `makes` that is the upper's, where a name that is absent is free, or has a whiteout. A source
 * knows the directory by `reference`. */
void lane_top(lane *self, uint64_t directory, uint32_t share, int single, int makes, uint32_t mode, uint32_t uid,
              uint32_t gid, uint64_t reference);
/* Change files from now on. With `writeback` the kernel caches writes, and keeps times by itself. Copies are made in the
 * directory `scratch`; `durable` says how one gets to disk before it gets its name; `number_xattr`, of up to 63 bytes, is
 * where it keeps its number: without one nothing is copied. With `static_links` a directory shows one link. */
enum lane_durable { LANE_VOLATILE = 0, LANE_ORDERED = 1, LANE_SYNCED = 2 };
void lane_change_files(lane *self, int writeback, int scratch, int durable, const char *number_xattr, int static_links);

/* Which tree had a file that has no name any more. */
enum lane_gone { LANE_GONE_LOWER = 1, LANE_GONE_UPPER = 2 };

/* What the lane has changed: a new file is at a name of the upper; or a copy of the lower's; or nothing is, and nothing
 * shows; or a whiteout is; or a new directory is, which the lane has at hand: its one share is the upper's, and the
 * descriptor `fd` of that is the caller's from now on. `fd` is -1 where the kernel does not know the directory. Or a
 * directory itself, without a name, has another owner or mode. Of a directory that was made or set its share is told. */
enum lane_edit_kind {
    LANE_MADE = 0,
    LANE_COPIED = 1,
    LANE_REMOVED = 2,
    LANE_HIDDEN = 3,
    LANE_MADE_DIRECTORY = 4,
    LANE_SET = 5
};
typedef struct {
    uint64_t directory, number;
    uint32_t kind;
    int fd;
    uint64_t device, inode;
    uint32_t mode, uid, gid;
    uint32_t size;
    const char *name; /* without a NUL; good until the next call */
} lane_edit;
/* Take in what was changed during the last wait, in order: 1, or 0 for nothing more. Nothing else is to be called
 * before. */
int lane_edited(lane *self, lane_edit *edit);
/* Forget a directory's names; what the kernel knows of them is answered by others from now on. */
void lane_drop(lane *self, uint64_t directory);
/* The descriptor of a share of a directory; -1 while it has none. */
void lane_share(lane *self, uint64_t directory, uint32_t share, int fd);
/* Have a name of a directory asked elsewhere (LANE_ASK), or answered as absent (LANE_GONE). -ENOSPC: too many changes,
 * drop the directory. */
int lane_change(lane *self, uint64_t directory, const char *name, size_t size, uint32_t place);
/* Note that a directory has names that it did not have when it was handed over, or lacks some: it is listed elsewhere. */
void lane_relist(lane *self, uint64_t directory);

/* Others answer for this number from now on, or one time less; claims are counted. */
int lane_claim(lane *self, uint64_t number);
void lane_disclaim(lane *self, uint64_t number);
/* Hand over what the lane knows of a number: 1, or 0 for nothing. The descriptor is the caller's. */
int lane_take(lane *self, uint64_t number, lane_taken *taken);
/* Take over what others have answered for, and nobody claims or has open; 0 where it is nothing for the lane. */
int lane_give(lane *self, const lane_taken *given);
/* How many numbers the lane answers for in a directory. Once asked, it notes when there is none left. */
uint32_t lane_children(lane *self, uint64_t directory);
/* Return a directory whose files were waited for, and the position in it of those that are asked for next; 0 for none. */
uint64_t lane_slow(lane *self, uint32_t *position);
/* Note that a small file was opened, by its place among the names of its directory, and whether it had to be waited for.
 * Where files are opened in order the disk is asked for the data of the next ones: returns for how many. */
uint32_t lane_ahead(lane *self, uint64_t directory, uint32_t name, int waited);
/* Return a directory that has lost its last one, or 0. */
uint64_t lane_emptied(lane *self);
