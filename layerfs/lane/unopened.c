/* Files that the kernel opens by itself, because OPEN was answered with ENOSYS: a READ of one carries no handle, and nobody
 * tells when it is closed. What is read whole at once is closed again at once; of the others a few stay open. */

#include "state.h"

#include <unistd.h>

void lane_no_open(lane *self) { self->no_open = true; }

void data_close(struct lane *self, struct inode *inode) {
    if (inode->fd < 0) return;
    close(inode->fd);
    inode->fd = -1;
    self->files--;
}

/* Note that the data of a file are open although nobody has opened it. The one that was noted first makes room. */
void unopened_add(struct lane *self, const struct inode *inode) {
    uint32_t limit = self->files_max < UNOPENED ? self->files_max : UNOPENED;
    uint64_t *slot = &self->unopened[self->unopened_next];
    struct inode *first = number_find(self, *slot);
    if (first && first != inode && !first->opens) data_close(self, first);
    *slot = inode->ino;
    if (++self->unopened_next >= limit) self->unopened_next = 0;
}

/* Note that a file was read whose READ came at a moment [ns]. If that was all of it, close it again; the first time, look
 * ahead, as an open does. */
void unopened_read(struct lane *self, struct inode *inode, const struct fuse_read_in *read, size_t done, int64_t began) {
    struct stat st;
    uring_flush(self);
    if (read->offset || inode->fd < 0 || fstat(inode->fd, &st)) return;
    if (!inode->stored && st.st_size <= (off_t)STORED_MAX)
        lane_ahead(self, inode->directory->ino, inode->name, lane_waited(self, began));
    inode->stored = true;
    if ((off_t)done >= st.st_size) data_close(self, inode);
}
