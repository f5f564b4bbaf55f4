/* Removals of plain files: a whiteout over what a lower has, or the end of a file of the upper. The kernel may still ask for
 * the file, which is held on to until it is forgotten. */

#include "state.h"

#include <fcntl.h>
#include <unistd.h>

#define WHITEOUT "whiteout"    /* in the scratch directory: a device that all whiteouts are links of, once it is there */

/* Show a file whose name is gone; false if that is another's. */
bool gone_attributes(struct lane *self, const struct fuse_in_header *in, const struct inode *inode) {
    struct stat st;
    if (!inode->gone || inode->fd < 0 || fstat(inode->fd, &st) || !is_same(self, inode, &st, true)) return false;
    st.st_nlink = 0;
    send_attributes(self, in, &st);
    return true;
}

bool answer_unlink(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size) {
    const char *name = name_in(body, size);
    struct directory *directory = name ? directory_find(self, in->nodeid) : NULL;
    int at = upper_of(self, directory);
    int64_t found = at < 0 || self->files >= self->files_max ? -1 : name_find(self, directory, name, size - 1);
    struct inode *inode = found < 0 ? NULL : inode_at(self, directory, (uint32_t)found, name);
    if (!inode || inode->opens || inode->fd >= 0 || directory->names[found].place & PLACE_HIDES) return false;
    bool lower = directory->names[found].place != directory->top;
    int pin = openat(directory->shares[directory->names[found].place], name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (pin < 0) return false;
    bool same = !fstat(pin, &st) && is_same(self, inode, &st, true) && (lower || st.st_size <= FREED_MAX);
    if (!same || (lower ? linkat(self->scratch, WHITEOUT, at, name, 0) : unlinkat(at, name, 0))) {
        close(pin);
        return false;
    }
    inode->fd = pin;
    self->files++;
    inode->gone = lower ? LANE_GONE_LOWER : LANE_GONE_UPPER;
    directory->names[found].place = LANE_GONE;
    directory->listed = false;
    note_edit(self, lower ? LANE_HIDDEN : LANE_REMOVED, directory, (uint32_t)found, inode->ino);
    lane_send(self, in->unique, 0, 0);
    return true;
}
