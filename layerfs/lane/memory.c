/* Requests for libfuse handed over in memory, and its answers taken from there, instead of through a pair of sockets: four
 * system calls less for each. libfuse lets its user read and write in its place (fuse_session_custom_io, libfuse 3.14). The
 * session is the one whose reader intercept.c has seen last. All on one thread. */

#include "state.h"

#include "intercept.h"

#include <sys/uio.h>
#include <unistd.h>

/* The beginning of struct fuse_custom_io (fuse_lowlevel.h); what was added since is optional, and NULL. */
struct custom_io {
    ssize_t (*writev)(int fd, struct iovec *parts, int count, void *userdata);
    ssize_t (*read)(int fd, void *to, size_t room, void *userdata);
    void *others[6];
};

static struct lane *ours; /* whose requests are handed over in memory */

/* Give libfuse the request that is held for it. */
static ssize_t hand_over(int fd, void *to, size_t room, void *userdata) {
    (void)fd, (void)userdata;
    struct fuse_in_header in = {0};
    size_t size = ours && ours->ready ? ours->held : 0;
    if (!size) {
        errno = EAGAIN;
        return -1;
    }
    ours->held = 0;
    ours->ready = false;
    if (size >= sizeof in) memcpy(&in, ours->in, sizeof in);
    bool answered = size >= sizeof in && is_answered(in.opcode);
    if (size > room) {
        if (answered) lane_send(ours, in.unique, EIO, 0);
        errno = EAGAIN;
        return -1;
    }
    memcpy(to, ours->in, size);
    if (answered) ours->outstanding++;
    return (ssize_t)size;
}

/* Give the kernel an answer of libfuse's; an answer that it does not take fails the request, and nothing else. */
static ssize_t take_answer(int fd, struct iovec *parts, int count, void *userdata) {
    (void)fd, (void)userdata;
    struct fuse_out_header head;
    if (!ours || count < 1 || parts[0].iov_len < sizeof head) {
        errno = ENOENT; /* as if the client were gone */
        return -1;
    }
    memcpy(&head, parts[0].iov_base, sizeof head);
    answer_counted(ours, head.unique);
    bool given = give_answer(ours, parts, count) >= 0 || errno == ENOENT || errno == ENODEV;
    if (!given) lane_send(ours, head.unique, EIO, 0);
    uring_flush(ours);
    ours->last = lane_now();
    return (ssize_t)head.len;
}

int lane_in_memory(lane *self, int fd) {
    static const struct custom_io io = {.writev = take_answer, .read = hand_over};
    if (ours || !layerfs_session || !layerfs_custom_io || layerfs_custom_io(layerfs_session, &io, fd)) return 0;
    ours = self;
    self->in_memory = true;
    return 1;
}

void memory_close(struct lane *self) {
    if (ours == self) ours = NULL;
}
