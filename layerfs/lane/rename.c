/* Renames of plain files to names that are free, or that other plain files have, in one system call; the lower never shows
 * at the old name. */

#include "state.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_WHITEOUT 4
#endif

/* Return the inode that the lane answers for at a name; NULL for what is others'. */
struct inode *inode_at(struct lane *self, struct directory *directory, uint32_t name, const char *text) {
    struct stat st;
    uint64_t ino;
    uint32_t listed = directory->names[name].place & ~PLACE_HIDES;
    int fd = listed < directory->shares_count ? directory->shares[listed] : -1;
    if (fd < 0 || fstatat(fd, text, &st, AT_SYMLINK_NOFOLLOW) || st.st_nlink != 1) return NULL;
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) return NULL;
    if (!lane_own(self, &st, &ino)) return NULL;
    struct inode *inode = number_find(self, ino);
    return inode && !inode->gone && inode->directory == directory && inode->name == name ? inode : NULL;
}

/* Copy a file up that is about to move, unless the upper has it; whoever has it open goes on with the copy. */
bool bring_up(struct lane *self, struct inode *inode) {
    if ((inode->directory->names[inode->name].place & ~PLACE_HIDES) == inode->directory->top) return true;
    int fd = lane_copy_up(self, inode);
    if (fd < 0) return false;
    if (inode->fd >= 0) {
        close(inode->fd);
        inode->fd = fd;
    } else {
        close(fd);
    }
    return true;
}

/* Move an inode to another name, of the same share of the upper, which `covers` what the lowers have there. */
static void note_moved(struct lane *self, struct inode *inode, struct directory *to, uint32_t name, bool covers) {
    struct directory *from = inode->directory;
    bool hides = from->names[inode->name].place & PLACE_HIDES;
    from->names[inode->name].place = LANE_GONE;
    to->names[name].place = to->top | (inode->own ? PLACE_KEPT : 0) | (covers ? PLACE_HIDES : 0);
    from->listed = to->listed = false;
    note_edit(self, hides ? LANE_HIDDEN : LANE_REMOVED, from, inode->name, inode->ino);
    note_edit(self, LANE_MADE, to, name, inode->ino);
    inode->directory = to;
    inode->name = name;
    inode->opened = 0;
    to->children++;
    child_gone(self, from);
}

/* Take two names apart that fill a body; false if they do not. */
static bool two_names(const char *body, size_t size, const char **old, const char **new) {
    size_t first = strnlen(body, size) + 1;
    if (first > size) return false;
    *old = name_in(body, first);
    *new = name_in(body + first, size - first);
    return *old && *new;
}

/* Return the plain file that is to be replaced, if it is closed and what it takes to let it go is little; NULL for any other.
 * `pin` holds on to it. */
static struct inode *victim_at(struct lane *self, struct directory *to, uint32_t name, const char *text, int *pin) {
    struct inode *victim = self->files < self->files_max ? inode_at(self, to, name, text) : NULL;
    struct stat st;
    if (!victim || victim->opens || victim->fd >= 0) return NULL;
    uint32_t share = to->names[name].place & ~PLACE_HIDES;
    *pin = openat(to->shares[share], text, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (*pin < 0) return NULL;
    if (!fstat(*pin, &st) && is_same(self, victim, &st, true) && (share != to->top || st.st_size <= FREED_MAX)) return victim;
    close(*pin);
    *pin = -1;
    return NULL;
}

/* Note that a file has lost its name to another one, and is held on to. */
static void note_replaced(struct lane *self, struct inode *victim, int pin) {
    struct directory *directory = victim->directory;
    uint32_t place = directory->names[victim->name].place;
    bool lower = place != directory->top && place != (directory->top | PLACE_HIDES);
    victim->fd = pin;
    self->files++;
    victim->gone = lower ? LANE_GONE_LOWER : LANE_GONE_UPPER;
    note_edit(self, place == directory->top ? LANE_REMOVED : LANE_HIDDEN, directory, victim->name, victim->ino);
}

/* Rename what is at hand to a name that is free or a plain file's; anything else is for others, also when it was copied up
 * already. */
bool answer_rename(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size) {
    struct fuse_rename2_in rename = {0};
    const char *old, *new;
    size_t head = in->opcode == FUSE_RENAME2 ? sizeof rename : sizeof(struct fuse_rename_in);
    if (size < head) return false;
    memcpy(&rename, body, head);
    if (rename.flags & ~(uint32_t)RENAME_NOREPLACE || !two_names(body + head, size - head, &old, &new)) return false;
    struct directory *from = directory_find(self, in->nodeid), *to = directory_find(self, rename.newdir);
    int at = upper_of(self, from), at_new = upper_of(self, to), pin = -1;
    if (at < 0 || at_new < 0 || is_mark(new)) return false;
    int64_t found = name_find(self, from, old, strlen(old)), taken = name_find(self, to, new, strlen(new));
    struct inode *inode = found < 0 ? NULL : inode_at(self, from, (uint32_t)found, old), *victim = NULL;
    if (inode && taken >= 0 && to->names[taken].place != LANE_GONE && !rename.flags)
        victim = victim_at(self, to, (uint32_t)taken, new, &pin);
    int64_t free = victim ? taken : inode ? free_name(self, to, new, strlen(new)) : -1;
    if (free < 0 || victim == inode || !bring_up(self, inode)) goto fail;
    uint32_t place = to->names[free].place;
    bool hides = from->names[found].place & PLACE_HIDES, over = victim && (place & ~PLACE_HIDES) == to->top;
    if (renameat2(at, old, at_new, new, (over ? 0 : RENAME_NOREPLACE) | (hides ? RENAME_WHITEOUT : 0))) goto fail;
    if (victim) note_replaced(self, victim, pin);
    note_moved(self, inode, to, (uint32_t)free, victim && place != to->top);
    lane_send(self, in->unique, 0, 0);
    return true;
fail:
    if (pin >= 0) close(pin);
    return false;
}
