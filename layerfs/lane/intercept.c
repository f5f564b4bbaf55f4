/* A filter in front of libfuse's reader: requests of a few opcodes are set aside instead of being handed to libfuse.
 *
 * pyfuse3 has no handlers for them, and libfuse reads the device by itself. This library exports libfuse's function
 * under the same name; loaded with RTLD_GLOBAL it is found first, as with LD_PRELOAD, and calls libfuse's own. What is
 * set aside is told to the caller as EINTR, upon which pyfuse3 waits for the next request. All other requests cost one
 * call and one comparison. Everything here is for one thread. */

#define _GNU_SOURCE
#include "intercept.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

/* The beginning of struct fuse_buf, which is part of libfuse's ABI (fuse_common.h). */
struct buffer {
    size_t size;
    int flags;
    void *mem;
};

typedef int reader(void *session, struct buffer *buffer);

uint64_t layerfs_raw_opcodes;
uint32_t layerfs_raw_size; /* of the message that was set aside; whoever takes it sets this to 0 */
char layerfs_raw_message[32768]; /* FUSE_IOCTL may carry 16 KiB; what is larger is libfuse's to refuse */

void *layerfs_session;
int (*layerfs_custom_io)(void *session, const struct custom_io *io, int fd);
static reader *libfuse_reader;

static const char name[] = "fuse_session_receive_buf";

/* Find libfuse's own function: in the library that the module at `path` depends on, which stays loaded. 0, or -1. */
int layerfs_intercept(const char *path);
int layerfs_intercept(const char *path) {
    void *user = dlopen(path, RTLD_LAZY | RTLD_LOCAL), *libfuse = NULL;
    if (!user) return -1;
    void *found = dlsym(user, name); /* among what it depends on, not in the global scope: not our own */
    Dl_info where;
    if (found && dladdr(found, &where)) libfuse = dlopen(where.dli_fname, RTLD_LAZY | RTLD_LOCAL);
    if (libfuse) {
        libfuse_reader = (reader *)dlsym(libfuse, name);
        *(void **)&layerfs_custom_io = dlsym(libfuse, "fuse_session_custom_io");
    }
    dlclose(user); /* Python loads it again, and then its calls are bound, to us */
    return libfuse_reader ? 0 : -1;
}

void layerfs_name_handle(char *message, size_t size) {
    struct fuse_in_header head;
    uint64_t handle; /* the body begins with it */
    if (size < sizeof head + sizeof handle) return;
    memcpy(&head, message, sizeof head);
    switch (head.opcode) {
    case FUSE_READ:
    case FUSE_WRITE:
    case FUSE_FSYNC:
    case FUSE_FLUSH:
    case FUSE_IOCTL:
    case FUSE_FALLOCATE:
    case FUSE_LSEEK:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_FSYNCDIR:
        memcpy(&handle, message + sizeof head, sizeof handle);
        if (!handle) memcpy(message + sizeof head, &head.nodeid, sizeof head.nodeid);
        break;
    default: break;
    }
}

int fuse_session_receive_buf(void *session, struct buffer *buffer);
int fuse_session_receive_buf(void *session, struct buffer *buffer) {
    if (!libfuse_reader) return -ENOSYS;
    layerfs_session = session;
    int size = libfuse_reader(session, buffer);
    struct fuse_in_header head;
    if (size < (int)sizeof head || buffer->flags || layerfs_raw_size) return size;
    layerfs_name_handle(buffer->mem, (size_t)size);
    memcpy(&head, buffer->mem, sizeof head);
    if (!is_raw(head.opcode) || (size_t)size > sizeof layerfs_raw_message) return size;
    memcpy(layerfs_raw_message, buffer->mem, (size_t)size);
    layerfs_raw_size = (uint32_t)size;
    return -EINTR;
}
