/* The loop: read the device, answer or pass on, give back what others answered. All on one thread. */

#include "state.h"

#include "intercept.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SPIN 50000           /* ns; whoever was just answered asks again within this, or has something else to do */
#define LINGER 1             /* ms that a server stays bound to the processor of a client that asks no more */
#define TURN 8               /* requests between two looks at what else there is */

int64_t lane_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

lane *lane_open(int device, int pair, size_t room, uint64_t seconds, uint32_t nanoseconds, uint32_t files,
                uint64_t *met) {
    if (room < 4 * FUSE_MIN_READ_BUFFER) room = 4 * FUSE_MIN_READ_BUFFER;
    lane *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    *self = (lane){.device = device, .pair = pair, .room = room, .seconds = seconds, .nanoseconds = nanoseconds,
                   .files_max = files, .met = met, .seed = mix((uint64_t)lane_now() ^ (uintptr_t)self)};
    self->in = self->own_in = malloc(room);
    self->out = self->own_out = malloc(room + sizeof(struct fuse_notify_store_out));
    if (self->in && self->out) return self;
    lane_close(self);
    return NULL;
}

void lane_close(lane *self) {
    memory_close(self);
    lane_ring_close(self);
    tables_close(self);
    edits_close(self);
    free(self->own_in);
    free(self->own_out);
    free(self);
}

static void note_switches(lane *self) {
    struct rusage usage;
    self->switches = getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nvcsw;
}

int64_t lane_last(const lane *self) { return self->last; }

void lane_set_pair(lane *self, int pair) {
    uring_forget_others(self); /* what was waited for before may be another file by now, with the same number */
    self->pair = pair;
}

void lane_set_files(lane *self, uint32_t files) { self->files_max = files; }
uint32_t lane_outstanding(const lane *self) { return self->outstanding; }

/* Count an answer of others. One to an INTERRUPT, which was not counted, has the lowest bit. */
void answer_counted(lane *self, uint64_t unique) {
    if (unique && !(unique & 1) && self->outstanding) self->outstanding--;
}

int lane_relay(lane *self) {
    while (!self->in_memory && (self->outstanding || self->passed)) {
        ssize_t size = recv(self->pair, self->out, self->room, MSG_DONTWAIT | MSG_TRUNC);
        if (size < 0) {
            self->passed = false;
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        if (!size) return -EPIPE;
        struct fuse_out_header head;
        if ((size_t)size < sizeof head) continue;
        memcpy(&head, self->out, sizeof head);
        answer_counted(self, head.unique);
        bool whole = head.len == (size_t)size && (size_t)size <= self->room;
        struct iovec answer = {self->out, (size_t)size};
        bool given = whole && (give_answer(self, &answer, 1) >= 0 || errno == ENOENT || errno == ENODEV);
        if (!given) lane_send(self, head.unique, EIO, 0);
        self->last = lane_now();
    }
    return 0;
}

/* Tell whether the thread has slept since a moment [ns]: then it was for a disk. */
bool lane_waited(lane *self, int64_t since) {
    if (lane_now() - since < COLD) return false;
    int64_t before = self->switches;
    note_switches(self);
    return self->switches != before;
}

uint64_t lane_slow(lane *self, uint32_t *position) {
    uint64_t directory = self->slow;
    *position = self->slow_position;
    self->slow = 0;
    return directory;
}

static int put_on_pair(lane *self, const char *message, size_t size) {
    struct fuse_in_header in;
    ssize_t sent;
    do sent = send(self->pair, message, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) return -errno;
    if (size >= sizeof in) {
        memcpy(&in, message, sizeof in);
        if (is_answered(in.opcode))
            self->outstanding++;
        else
            self->passed = true;
    }
    return 0;
}

int lane_hold(lane *self, const char *message, size_t size) {
    struct fuse_in_header in;
    if (self->held) return -EBUSY;
    if (size > self->room) { /* none is, since the kernel was told how much a message may carry */
        memcpy(&in, message, sizeof in);
        if (is_answered(in.opcode)) lane_send(self, in.unique, EIO, 0);
        return 0;
    }
    self->in = self->own_in;
    memcpy(self->in, message, size);
    self->held = size;
    self->told = false;
    layerfs_name_handle(self->in, size);
    return 0;
}

int lane_writing(lane *self, lane_write *write) {
    struct fuse_in_header in;
    struct fuse_write_in body;
    if (self->held < sizeof in + sizeof body) return 0;
    memcpy(&in, self->in, sizeof in);
    memcpy(&body, self->in + sizeof in, sizeof body);
    if (in.opcode != FUSE_WRITE || body.size != self->held - sizeof in - sizeof body) return 0;
    *write = (lane_write){.fh = body.fh, .offset = body.offset, .size = body.size,
                          .data = self->in + sizeof in + sizeof body};
    return 1;
}

void lane_written(lane *self, int error, uint32_t size) {
    lane_write write;
    struct fuse_in_header in;
    if (!lane_writing(self, &write)) return;
    memcpy(&in, self->in, sizeof in);
    self->held = 0;
    self->ready = false;
    struct fuse_write_out out = {.size = size};
    memcpy(BODY(self), &out, sizeof out);
    lane_send(self, in.unique, error, error ? 0 : sizeof out);
    uring_flush(self);
    self->last = lane_now();
}

/* Put what is held on the pair, unless it is a raw one, which stays. One that does not fit fails: 0, nothing to read. */
static int pass_held(lane *self) {
    struct fuse_in_header in;
    if (self->pair < 0) return LANE_RAW;
    if (self->held >= sizeof in) {
        memcpy(&in, self->in, sizeof in);
        if (is_raw(in.opcode)) return LANE_RAW;
    }
    if (self->in_memory) {
        self->ready = true;
        return LANE_REQUEST;
    }
    int error = put_on_pair(self, self->in, self->held);
    bool whole = self->held >= sizeof in;
    self->held = 0;
    if (!error) return LANE_REQUEST;
    if (error == -EPIPE || error == -EAGAIN || !whole) return error;
    memcpy(&in, self->in, sizeof in);
    if (is_answered(in.opcode)) lane_send(self, in.unique, EIO, 0);
    return 0;
}

/* Return the directory of which a listing is asked for, if that is what is held; 0 if it is not. */
uint64_t lane_listing(const lane *self) {
    struct fuse_in_header in;
    if (self->held < sizeof in) return 0;
    memcpy(&in, self->in, sizeof in);
    return in.opcode == FUSE_READDIR || in.opcode == FUSE_READDIRPLUS ? in.nodeid : 0;
}

/* Hand out what is held: first tell of a listing of a directory that is not at hand, since it may be handed over. */
static int hand_out(lane *self) {
    uint64_t directory = lane_listing(self);
    self->told = directory && !directory_find(self, directory);
    return self->told ? LANE_LIST : pass_held(self);
}

void lane_set_raw(uint64_t opcodes) { layerfs_raw_opcodes = opcodes; }

size_t lane_raw(lane *self, const char **message) {
    size_t size = self->held;
    self->held = 0;
    self->ready = self->told = false;
    *message = self->in;
    return size;
}

/* Return what is readable beside the device: LANE_OTHER, LANE_JOB or 0. Waits up to `milliseconds`, for the device and
 * for late answers, too. */
static int look(lane *self, int other, int job, int milliseconds) {
    if (self->uring && milliseconds) {
        int woken = uring_sleep(self, other, job, milliseconds);
        if (woken <= 0) return woken;
        milliseconds = 0;
    }
    int device = milliseconds ? self->device : -1;
    struct pollfd fds[4] = {{other, POLLIN, 0}, {job, POLLIN, 0}, {self->in_memory ? -1 : self->pair, POLLIN, 0}, {device, POLLIN, 0}};
    if (poll(fds, 4, milliseconds) <= 0) return 0;
    if (fds[2].revents) {
        self->passed = true;
        int error = lane_relay(self);
        if (error) return error;
    }
    return fds[0].revents ? LANE_OTHER : fds[1].revents ? LANE_JOB : 0;
}

/* Have a request in `in`: its size, 0 if there is none, or -errno. With `sleeps` a sleep comes next if there is none. */
static ssize_t take(lane *self, bool sleeps) {
    if (self->uring && !uring_device_is_due(self)) {
        ssize_t size = uring_take(self, sleeps);
        if (size || !uring_device_is_due(self)) return size;
    }
    self->in = self->own_in;
    int error = uring_flush(self);
    if (error) return error;
    for (;;) {
        ssize_t size = read(self->device, self->in, self->room);
        if (self->uring) uring_device_was_read(self, size > 0);
        if (size >= 0) return size ? size : -ENODEV;
        if (errno == EAGAIN) return self->uring ? uring_take(self, sleeps) : 0;
        /* Taken back by a client that was killed, or by the end of the mount: then ENODEV comes next. */
        if (errno != ENOENT && errno != EINTR && errno != ECONNABORTED) return -errno;
    }
}

static int left(int64_t end) {
    int64_t rest = end < 0 ? -1 : (end - lane_now() + 999999) / 1000000;
    return end < 0 ? -1 : rest < 0 ? 0 : rest > INT32_MAX ? INT32_MAX : (int)rest;
}

/* Answer a request of `size` bytes; false if it is for others. */
static bool answer(lane *self, size_t size) {
    bool done = lane_answer(self, size);
    struct fuse_in_header in;
    self->out = self->own_out;
    if (done || size < sizeof in) return done;
    memcpy(&in, self->in, sizeof in);
    if (!uring_refuses(self, in.unique)) return false;
    self->held = 0;
    return lane_send(self, in.unique, ENOSYS, 0);
}

/* Note a request that has come. */
static void note_pace(lane *self, size_t size, int64_t gap) {
    struct fuse_in_header in = {0};
    if (size >= sizeof in) memcpy(&in, self->in, sizeof in);
    lane_came(self, gap, in.opcode == FUSE_LOOKUP ? in.pid : 0); /* beside.c says why no other */
}

/* Answer requests until there is something for others, as lane_wait does. */
static int answer_until(lane *self, int other, int job, int milliseconds, bool chooses) {
    int event;
    int64_t begin = lane_now(), end = milliseconds < 0 ? -1 : begin + milliseconds * 1000000ll;
    for (bool some = false, spins = false;; some = true) {
        if (!spins && ++self->turn % TURN == 0) { /* over all waits: a request for others ends one, and the next is there already */
            if ((event = look(self, other, job, 0))) return event;
            if (some && end >= 0 && lane_now() >= end) return 0;
        }
        ssize_t size = take(self, milliseconds && !(chooses && pace_way(&self->pace) == LANE_LOOKS));
        spins = false;
        if (size < 0) return (int)size;
        if (size) {
            ++*self->met;
            int64_t met = lane_now();
            if (chooses) note_pace(self, (size_t)size, met - begin);
            bool done = answer(self, (size_t)size);
            self->last = begin = done ? lane_now() : met;
            if (done && self->slow && job < 0) return LANE_SLOW;
            if (done) continue;
            if (job >= 0) return LANE_OTHER;
            lane_write write;
            if (lane_writing(self, &write)) return LANE_WRITE;
            if ((event = hand_out(self))) return event;
            continue;
        }
        int64_t waited = lane_now() - begin;
        if (chooses && pace_way(&self->pace) == LANE_LOOKS && waited < SPIN) {
            spins = self->uring; /* which takes no system call */
            continue;
        }
        if (waited >= LINGER * 1000000ll) beside_leave(&self->beside);
        int rest = left(end);
        if (self->beside.bound && (rest < 0 || rest > LINGER)) rest = LINGER;
        event = look(self, other, job, rest);
        note_switches(self);
        if (event) return event;
        if (end >= 0 && lane_now() >= end) return 0;
    }
}

/* Answer a listing that was told of, if its directory is at hand by now, or hand out what is held. 0: nothing is, then. */
static int held_again(lane *self, int job) {
    if (job >= 0) return LANE_OTHER;
    if (self->ready) return pass_held(self);
    if (!self->told) return hand_out(self);
    self->told = false;
    if (!answer(self, self->held)) return pass_held(self);
    self->last = lane_now();
    int error = uring_flush(self);
    return error || !self->slow ? error : LANE_SLOW;
}

int lane_wait(lane *self, int other, int job, int milliseconds, int spin) {
    int event = lane_relay(self);
    if (event < 0) return event;
    note_switches(self);
    if (self->held && (event = held_again(self, job))) return event;
    bool chooses = spin && milliseconds;
    if (chooses && self->pace.beside && lane_now() - self->last < LINGER * 1000000ll) beside_bind(&self->beside);
    event = answer_until(self, other, job, milliseconds, chooses);
    beside_leave(&self->beside); /* what the caller starts may run anywhere */
    int error = uring_flush(self);
    return error < 0 && event >= 0 ? error : event;
}
