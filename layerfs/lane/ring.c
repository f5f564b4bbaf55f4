/* io_uring: set up, entered, taken down (io_uring_setup(2), io_uring_enter(2)). What arrives is put into our memory only
 * when the thread enters the kernel for it (IORING_SETUP_DEFER_TASKRUN). */

#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ONE_THREAD (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG)
#define NEEDED (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_EXT_ARG)

/* Map what the kernel shares with us. Children do not have it: they would keep the ring from its end. */
static void *map(int fd, size_t size, off_t offset) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    if (at == MAP_FAILED) return NULL;
    if (!madvise(at, size, MADV_DONTFORK)) return at;
    munmap(at, size);
    return NULL;
}

bool ring_open(struct ring *self, uint32_t count, bool wide) {
    struct io_uring_params params = {.flags = IORING_SETUP_SUBMIT_ALL | ONE_THREAD | (wide ? IORING_SETUP_SQE128 : 0)};
    *self = (struct ring){.wide = wide, .fd = (int)syscall(SYS_io_uring_setup, count, &params)};
    if (self->fd < 0 || (params.features & NEEDED) != NEEDED) return false;
    size_t first = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t second = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    self->rings_size = first > second ? first : second;
    self->commands_size = params.sq_entries * sizeof(struct io_uring_sqe) * (wide ? 2 : 1);
    char *rings = self->rings = map(self->fd, self->rings_size, IORING_OFF_SQ_RING);
    self->commands = map(self->fd, self->commands_size, IORING_OFF_SQES);
    if (!rings || !self->commands) return false;
    self->tail = (uint32_t *)(rings + params.sq_off.tail);
    self->flags = (uint32_t *)(rings + params.sq_off.flags);
    self->mask = params.sq_entries - 1;
    self->done_head = (uint32_t *)(rings + params.cq_off.head);
    self->done_tail = (uint32_t *)(rings + params.cq_off.tail);
    self->done_mask = params.cq_entries - 1;
    self->done = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
    uint32_t *order = (uint32_t *)(rings + params.sq_off.array);
    for (uint32_t at = 0; at < params.sq_entries; at++) order[at] = at;
    return true;
}

void ring_close(struct ring *self) {
    if (self->rings) munmap(self->rings, self->rings_size);
    if (self->commands) munmap(self->commands, self->commands_size);
    if (self->fd >= 0) close(self->fd);
    *self = (struct ring){.fd = -1};
}

struct io_uring_sqe *ring_command(struct ring *self) {
    struct io_uring_sqe *command = self->commands + (*self->tail & self->mask) * (self->wide ? 2 : 1);
    memset(command, 0, sizeof *command * (self->wide ? 2 : 1));
    __atomic_store_n(self->tail, *self->tail + 1, __ATOMIC_RELEASE);
    self->pending++;
    return command;
}

int ring_enter(struct ring *self, uint32_t least, int milliseconds) {
    struct __kernel_timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000ll};
    struct io_uring_getevents_arg argument = {.ts = (uint64_t)(uintptr_t)&time};
    bool timed = least && milliseconds >= 0;
    long taken = syscall(SYS_io_uring_enter, self->fd, self->pending, least,
                         IORING_ENTER_GETEVENTS | (timed ? IORING_ENTER_EXT_ARG : 0), timed ? &argument : NULL,
                         timed ? sizeof argument : 0);
    if (taken >= 0) {
        self->pending -= (uint32_t)taken;
        return 0;
    }
    return errno == EINTR || errno == ETIME || errno == EAGAIN || errno == EBUSY ? 0 : -errno;
}

bool ring_next(struct ring *self, struct io_uring_cqe *done) {
    if (ring_is_empty(self)) return false;
    uint32_t head = *self->done_head;
    *done = self->done[head & self->done_mask];
    __atomic_store_n(self->done_head, head + 1, __ATOMIC_RELEASE);
    return true;
}

bool ring_has(const struct ring *self, uint64_t what) {
    uint32_t tail = __atomic_load_n(self->done_tail, __ATOMIC_ACQUIRE);
    for (uint32_t at = *self->done_head; at != tail; at++)
        if (self->done[at & self->done_mask].user_data == what) return true;
    return false;
}
