/* FUSE over io_uring (Linux 6.14, Documentation/filesystems/fuse/fuse-io-uring.rst): an answer, and the wait for the next
 * request, are one system call. There is a queue for each possible processor; a request comes on that of its client, and
 * its entry is held until it is answered. While all entries of a queue are held the kernel lets further requests wait.
 *
 * FORGET, INTERRUPT and our notifications still pass over the device, so both are waited for. */

#include "state.h"

#include "ring.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define POSSIBLE "/sys/devices/system/cpu/possible"
#define ENTRIES_MOST 16u   /* of a queue; guessed */
#define ENTRIES_LEAST 4u
#define ENTRIES_ALL 512u   /* of all queues, as long as each has ENTRIES_LEAST */
#define QUEUES_MAX 4096u
#define TOGETHER 16u       /* entries that are registered by one call */
#define HEADROOM 4096u     /* bytes before an entry's payload: its header, and at the end what makes a message whole */
#define TOUCHED_IDLE (1u << 20) /* bytes of payloads that an idle server may keep, and any server; guessed */
#define TOUCHED_BUSY (16u << 20)
#define IDLE 1000          /* ms */
#define DEVICE_TURN 16u    /* requests of the ring between two looks at the device, when it is never empty */
#define ERRNO_END 512      /* errnos from here on are the kernel's own */
#define EVENTS 0u          /* what is done: the poll of `events`; the commands of entries begin at 1 */

/* The kernel's ABI (linux/fuse.h since 6.14): commands, what follows them, and the header of an entry. */
enum { REGISTER = 1, COMMIT_AND_FETCH = 2 };
struct command {
    uint64_t flags, commit_id;
    uint16_t queue;
    uint8_t padding[6];
};
struct entry_header {
    char in_out[128]; /* fuse_in_header, or fuse_out_header */
    char op_in[128];  /* what follows it in a message, and has a fixed size */
    struct {
        uint64_t flags, commit_id;
        uint32_t payload_size, padding;
        uint64_t reserved;
    } entry;
};
_Static_assert(sizeof(struct entry_header) == 288 && sizeof(struct command) == 24, "the kernel's ABI");

struct entry {
    char *memory;     /* HEADROOM, then the payload */
    uint64_t unique;  /* of the request that it holds; 0 for none */
    uint32_t touched; /* bytes of the payload that were written to */
    uint16_t queue;
    bool seeks;
};

struct uring {
    struct ring ring;
    int events, other, pair; /* an epoll that has the device and, if they are not -1, these two */
    uint32_t queues, each, count, touched;
    struct entry *entries, *last; /* last: whose request was taken last */
    char *memory;
    size_t room, size; /* of a payload, and of all entries [bytes] */
    uint64_t met;
    bool live, armed, due, again; /* due: the device is to be read next; again: and then, too */
};

static struct entry_header *header_of(const struct entry *entry) { return (struct entry_header *)entry->memory; }
static char *payload_of(const struct entry *entry) { return entry->memory + HEADROOM; }

static void entry_command(const struct lane *self, const struct entry *entry, uint32_t kind, const struct iovec *parts) {
    struct command what = {.commit_id = kind == REGISTER ? 0 : entry->unique, .queue = entry->queue};
    struct io_uring_sqe *command = ring_command(&self->uring->ring);
    command->opcode = IORING_OP_URING_CMD;
    command->fd = self->device;
    command->cmd_op = kind;
    command->addr = (uint64_t)(uintptr_t)parts;
    command->len = parts ? 2 : 0;
    command->user_data = (uint64_t)(entry - self->uring->entries) + 1;
    memcpy(command->cmd, &what, sizeof what);
}

/* Begin and end */

/* Return how many processors there may be; 0 where that is not certain. A queue too few would leave the mount dead. */
static uint32_t possible_processors(void) {
    int fd = open(POSSIBLE, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    struct statfs fs;
    char text[64], end;
    ssize_t size = fstatfs(fd, &fs) || fs.f_type != SYSFS_MAGIC ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0) return 0;
    text[size] = 0;
    if (!strcmp(text, "0\n")) return 1;
    uint32_t last;
    if (sscanf(text, "0-%u%c", &last, &end) != 2 || end != '\n') return 0;
    return last && last < QUEUES_MAX ? last + 1 : 0;
}

/* Tell whether the device takes commands from us at all: FUSE refuses one that is too short by EINVAL, while who is not
 * allowed io_uring, or not on this device, hears of that. Once FUSE_INIT is answered it would be too late. */
static bool is_allowed(int device) {
    struct ring ring;
    struct io_uring_cqe done = {.res = -EPERM};
    if (ring_open(&ring, 1, false)) {
        struct io_uring_sqe *command = ring_command(&ring);
        command->opcode = IORING_OP_URING_CMD;
        command->fd = device;
        command->cmd_op = REGISTER;
        if (!ring_enter(&ring, 1, IDLE)) ring_next(&ring, &done);
    }
    ring_close(&ring);
    return done.res == -EINVAL;
}

static bool open_entries(struct uring *uring, size_t payload, size_t room) {
    uring->queues = possible_processors();
    if (!uring->queues) return false;
    uring->each = ENTRIES_ALL / uring->queues;
    if (uring->each > ENTRIES_MOST) uring->each = ENTRIES_MOST;
    if (uring->each < ENTRIES_LEAST) uring->each = ENTRIES_LEAST;
    uring->count = uring->queues * uring->each;
    uring->room = payload;
    size_t most = (payload > room ? payload : room) + sizeof(struct fuse_notify_store_out); /* as a lane's `out` has */
    size_t one = HEADROOM + (most / HEADROOM + 1) * HEADROOM;
    uring->size = one * uring->count;
    uring->entries = calloc(uring->count, sizeof *uring->entries);
    void *memory = mmap(NULL, uring->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    uring->memory = memory;
    madvise(memory, uring->size, MADV_NOHUGEPAGE); /* one byte that is touched is not to cost 2 MiB */
    if (!uring->entries || madvise(memory, uring->size, MADV_DONTFORK)) return false;
    for (uint32_t at = 0; at < uring->count; at++) {
        uring->entries[at].memory = uring->memory + one * at;
        uring->entries[at].queue = (uint16_t)(at % uring->queues); /* each has one before any has two */
    }
    return true;
}

static bool watch(const struct uring *uring, int fd) {
    struct epoll_event event = {.events = EPOLLIN};
    return fd < 0 || !epoll_ctl(uring->events, EPOLL_CTL_ADD, fd, &event) || errno == EEXIST;
}

static void unwatch(const struct uring *uring, int fd) {
    if (fd >= 0) epoll_ctl(uring->events, EPOLL_CTL_DEL, fd, NULL);
}

int lane_ring_open(lane *self, size_t payload) {
    struct uring *uring = self->uring || !is_allowed(self->device) ? NULL : calloc(1, sizeof *uring);
    if (!uring) return 0;
    *uring = (struct uring){.ring.fd = -1, .events = epoll_create1(EPOLL_CLOEXEC), .other = -1, .pair = -1};
    self->uring = uring;
    if (uring->events >= 0 && watch(uring, self->device) && open_entries(uring, payload, self->room) &&
        ring_open(&uring->ring, uring->count + 1, true))
        return 1;
    lane_ring_close(self);
    return 0;
}

void lane_ring_close(lane *self) {
    struct uring *uring = self->uring;
    if (!uring) return;
    self->uring = NULL;
    self->in = self->own_in;
    self->out = self->own_out;
    ring_close(&uring->ring);
    if (uring->events >= 0) close(uring->events);
    if (uring->memory) munmap(uring->memory, uring->size);
    free(uring->entries);
    free(uring);
}

static void register_entry(struct lane *self, struct entry *entry, struct iovec parts[2]) {
    parts[0] = (struct iovec){header_of(entry), sizeof(struct entry_header)};
    parts[1] = (struct iovec){payload_of(entry), self->uring->room};
    entry_command(self, entry, REGISTER, parts);
}

/* Register some entries; false if one is refused, which is done at once. A request may be there already, too. */
static bool register_all(struct lane *self, uint32_t from, uint32_t to) {
    struct uring *uring = self->uring;
    struct iovec parts[TOGETHER][2];
    for (uint32_t at = from; at < to;) {
        for (uint32_t some = 0; some < TOGETHER && at < to; some++, at++)
            register_entry(self, &uring->entries[at], parts[some]);
        if (uring_flush(self) || uring->ring.pending) return false;
    }
    uint32_t tail = __atomic_load_n(uring->ring.done_tail, __ATOMIC_ACQUIRE);
    for (uint32_t at = *uring->ring.done_head; at != tail; at++)
        if (uring->ring.done[at & uring->ring.done_mask].res < 0) return false;
    return true;
}

/* Tell whether an error is that of a connection that is over. */
static bool is_end(int error) { return error == -ENOTCONN || error == -ECONNABORTED || error == -ECANCELED; }

/* Have the kernel do without a ring, as it does once a command to register was refused (fs/fuse/dev_uring.c). Where root has
 * switched it off since FUSE_INIT was read, it does so already: EOPNOTSUPP. */
static int give_up(struct lane *self) {
    struct io_uring_cqe done;
    if (uring_flush(self) || self->uring->ring.pending) return -EIO;
    while (ring_next(&self->uring->ring, &done));
    entry_command(self, &self->uring->entries[0], REGISTER, NULL);
    if (uring_flush(self) || !ring_next(&self->uring->ring, &done)) return -EIO;
    return done.res == -EINVAL || done.res == -EOPNOTSUPP || is_end(done.res) ? 0 : -EIO;
}

int lane_ring_register(lane *self) {
    struct uring *uring = self->uring;
    if (!uring) return 0;
    if (!register_all(self, 0, uring->queues)) return give_up(self);
    uring->live = true; /* each queue has an entry */
    return register_all(self, uring->queues, uring->count) ? 1 : -EIO;
}

uint64_t lane_ring_met(const lane *self) { return self->uring ? self->uring->met : 0; }
int lane_ring_lives(const lane *self) { return self->uring && self->uring->live; }
int lane_ring_events(const lane *self) { return self->uring ? self->uring->events : -1; }

int lane_ring_tell(lane *self, int eventfd) {
    if (!self->uring) return 0;
    int fd = self->uring->ring.fd;
    return syscall(SYS_io_uring_register, fd, IORING_REGISTER_EVENTFD, &eventfd, 1) ? -errno : 0;
}

/* Requests */

/* Have the kernel take what is pending; what it cannot take now goes with the next wait. 0 or -errno. */
int uring_flush(struct lane *self) {
    int error = 0;
    for (int tries = 0; !error && tries < 3 && self->uring && self->uring->ring.pending; tries++)
        error = ring_enter(&self->uring->ring, 0, 0);
    return error;
}

/* Deal with a command that failed: with the connection, which the device tells of, or by itself. Then another takes its
 * place. 0, or an error that ends the mount. */
static int lose(struct lane *self, struct entry *entry, int error) {
    struct iovec parts[2];
    entry->unique = 0;
    self->uring->due = true;
    if (is_end(error)) return 0;
    register_entry(self, entry, parts);
    return uring_flush(self) || self->uring->ring.pending ? -EIO : 0;
}

/* Make a message of a request, as the device would have given it. Its size, or 0 for one that makes no sense. */
static size_t make_message(struct lane *self, struct entry *entry) {
    const struct entry_header *header = header_of(entry);
    struct fuse_in_header in;
    memcpy(&in, header->in_out, sizeof in);
    size_t payload = header->entry.payload_size;
    entry->unique = header->entry.commit_id;
    entry->seeks = in.opcode == FUSE_LSEEK;
    if (payload > self->uring->room || in.len < sizeof in + payload || in.unique != entry->unique) return 0;
    size_t fixed = in.len - sizeof in - payload;
    if (fixed > sizeof header->op_in) return 0;
    if (payload) {
        self->in = payload_of(entry) - fixed - sizeof in;
    } else { /* so the payload is free for the answer */
        self->in = self->own_in;
        self->out = payload_of(entry) - sizeof(struct fuse_out_header);
    }
    memcpy(self->in, &in, sizeof in);
    memcpy(self->in + sizeof in, header->op_in, fixed);
    return in.len;
}

static void note_touched(struct uring *uring, struct entry *entry, size_t size) {
    if (size <= entry->touched) return;
    uring->touched += (uint32_t)size - entry->touched;
    entry->touched = (uint32_t)size;
}

/* Give the memory of large payloads back if no request is there: then nothing is in them, since what arrives is put there
 * only when we ask. */
static void trim(struct uring *uring) {
    if (uring->ring.pending || !ring_is_empty(&uring->ring)) return;
    for (uint32_t at = 0; at < uring->count; at++) {
        struct entry *entry = &uring->entries[at];
        if (entry->unique || entry->touched <= HEADROOM) continue;
        if (madvise(payload_of(entry), entry->touched, MADV_DONTNEED)) continue;
        uring->touched -= entry->touched;
        entry->touched = 0;
    }
}

ssize_t uring_take(struct lane *self, bool sleeps) {
    struct uring *uring = self->uring;
    struct io_uring_cqe done;
    uring->due |= uring->again;
    uring->again = false;
    bool enters = uring->ring.pending || ring_is_rung(&uring->ring);
    bool waits = sleeps && !uring->due && ring_is_empty(&uring->ring); /* then the sleep does it */
    int error = enters && !waits ? ring_enter(&uring->ring, 0, 0) : 0;
    while (!error && ring_next(&uring->ring, &done)) {
        if (done.user_data == EVENTS) {
            uring->armed = false;
            uring->due = true;
            continue;
        }
        struct entry *entry = &uring->entries[done.user_data - 1];
        if (done.res < 0) {
            error = lose(self, entry, done.res);
            continue;
        }
        size_t size = make_message(self, entry);
        uring->last = entry;
        uring->due |= ++uring->met % DEVICE_TURN == 0;
        note_touched(uring, entry, header_of(entry)->entry.payload_size);
        if (size) return (ssize_t)size;
        lane_send(self, entry->unique, EIO, 0);
    }
    return error;
}

/* Tell whether it is the device's turn. */
bool uring_device_is_due(const struct lane *self) { return self->uring->due; }

/* Note that the device was read; where it had something it is due again after the next request of the ring. */
void uring_device_was_read(struct lane *self, bool some) {
    self->uring->due = false;
    self->uring->again = some;
}

/* Tell whether the request that was taken last is a seek to be refused, upon which the kernel does without for ever: seeks
 * may wait for what the kernel writes back (fuse/flushing.py), which needs an entry as well. */
bool uring_refuses(const struct lane *self, uint64_t unique) {
    const struct uring *uring = self->uring;
    const struct entry *last = uring ? uring->last : NULL;
    if (!last || last->unique != unique || !last->seeks) return false;
    for (uint32_t at = last->queue; at < uring->count; at += uring->queues)
        if (!uring->entries[at].unique || !uring->entries[at].seeks) return false;
    return true;
}

/* Watch what else is waited for no more: descriptors with the same numbers may be other files by now. */
void uring_forget_others(struct lane *self) {
    if (!self->uring) return;
    unwatch(self->uring, self->uring->other);
    unwatch(self->uring, self->uring->pair);
    self->uring->other = self->uring->pair = -1;
}

static bool watch_others(struct lane *self, int other) {
    struct uring *uring = self->uring;
    int pair = self->in_memory ? -1 : self->pair;
    if (other == uring->other && pair == uring->pair) return true;
    uring_forget_others(self);
    if (!watch(uring, other) || !watch(uring, pair)) return false;
    uring->other = other;
    uring->pair = pair;
    return true;
}

/* Sleep until there is a request, or something to read from what else is waited for, or the time is over. 1 where something
 * else may be there, 0, or -errno. */
int uring_sleep(struct lane *self, int other, int job, int milliseconds) {
    struct uring *uring = self->uring;
    bool much = uring->touched > TOUCHED_IDLE;
    if (uring->touched > TOUCHED_BUSY && !uring_flush(self)) trim(uring);
    if (much && (milliseconds < 0 || milliseconds > IDLE)) milliseconds = IDLE;
    bool all = watch_others(self, other);
    if (!(watch(uring, job) && all)) milliseconds = 1; /* no memory: look again soon */
    if (!uring->armed) {
        struct io_uring_sqe *command = ring_command(&uring->ring);
        command->opcode = IORING_OP_POLL_ADD;
        command->fd = uring->events;
        command->poll32_events = EPOLLIN;
        command->user_data = EVENTS;
        uring->armed = true;
    }
    int error = ring_enter(&uring->ring, 1, milliseconds);
    if (!error && uring->ring.pending) error = ring_enter(&uring->ring, 1, 1); /* it had no memory */
    unwatch(uring, job);
    if (error) return error;
    if (much && milliseconds == IDLE) trim(uring);
    return milliseconds == 1 || ring_has(&uring->ring, EVENTS);
}

/* Answers */

static struct entry *holder(const struct uring *uring, uint64_t unique) {
    if (uring->last && uring->last->unique == unique) return uring->last;
    for (uint32_t at = 0; at < uring->count; at++)
        if (uring->entries[at].unique == unique) return &uring->entries[at];
    return NULL;
}

static bool put_answer(struct uring *uring, struct entry *entry, const struct fuse_out_header *head,
                       const struct iovec *parts, int count) {
    size_t size = 0, skip = sizeof *head;
    if (head->error > 0 || head->error <= -ERRNO_END) return false; /* as the device has it */
    for (int at = 0; at < count; skip = 0, at++) {
        size_t some = parts[at].iov_len - skip;
        if (some > uring->room - size) return false;
        memmove(payload_of(entry) + size, (const char *)parts[at].iov_base + skip, some);
        size += some;
    }
    memcpy(header_of(entry)->in_out, head, sizeof *head);
    header_of(entry)->entry.payload_size = (uint32_t)size;
    note_touched(uring, entry, size);
    return true;
}

/* Give the kernel an answer where it wants it, as writev(2) does; on the ring it is taken with the next flush or wait. */
ssize_t give_answer(struct lane *self, const struct iovec *parts, int count) {
    struct fuse_out_header head;
    memcpy(&head, parts[0].iov_base, sizeof head);
    struct entry *entry = self->uring && head.unique ? holder(self->uring, head.unique) : NULL;
    if (!entry) return writev(self->device, parts, count);
    if (!put_answer(self->uring, entry, &head, parts, count)) {
        errno = EINVAL;
        return -1;
    }
    entry_command(self, entry, COMMIT_AND_FETCH, NULL);
    entry->unique = 0;
    return (ssize_t)head.len;
}

int lane_reply(lane *self, uint64_t unique, int error, const char *body, size_t size) {
    struct fuse_out_header head = {.len = (uint32_t)(sizeof head + size), .error = -error, .unique = unique};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)(uintptr_t)body, size}};
    if (give_answer(self, parts, size ? 2 : 1) < 0) return -errno;
    return uring_flush(self);
}
