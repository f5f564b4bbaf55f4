/* An io_uring with commands of 128 bytes, by system calls alone. For one thread: the one that made it. */

#ifndef LANE_RING_H
#define LANE_RING_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    int fd;
    void *rings;
    struct io_uring_sqe *commands;
    size_t rings_size, commands_size;
    uint32_t *tail, *flags, *done_head, *done_tail, mask, done_mask, pending; /* pending: commands not submitted */
    struct io_uring_cqe *done;
    bool wide;
};

/* Make a ring for `count` commands at once; `wide` ones have 128 bytes. False where that cannot be; it is to be closed
 * then, too. */
bool ring_open(struct ring *self, uint32_t count, bool wide);
void ring_close(struct ring *self);
/* Return a blank command, which is submitted by the next `ring_enter`. There are never more than `count` pending. */
struct io_uring_sqe *ring_command(struct ring *self);
/* Submit what is pending and have the kernel show what has arrived; with `least` wait for as much, up to a time [ms], -1
 * for no end. 0 or -errno. What the kernel does not take now stays pending. */
int ring_enter(struct ring *self, uint32_t least, int milliseconds);
/* Take the next thing that is done; false if there is none. */
bool ring_next(struct ring *self, struct io_uring_cqe *done);
/* Tell whether one thing that is done and not taken is `what`. */
bool ring_has(const struct ring *self, uint64_t what);

static inline bool ring_is_empty(const struct ring *self) {
    return *self->done_head == __atomic_load_n(self->done_tail, __ATOMIC_ACQUIRE);
}

/* Tell whether something has arrived that the kernel shows only when it is entered. */
static inline bool ring_is_rung(const struct ring *self) {
    return __atomic_load_n(self->flags, __ATOMIC_RELAXED) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

#endif
