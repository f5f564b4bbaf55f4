/* What a lane holds. The tables have answers, not rules: a name is at a place, a number was given for a name. */
#ifndef LANE_STATE_H
#define LANE_STATE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "lane.h"

#define NAMES_MAX (4u << 20)   /* names in all directories */
#define EXTRA_MIN 1024u        /* names that a directory may gain, or as many as it had, until they are looked at */
#define NAME_LIMIT 255u
#define DEVICES 64u            /* filesystems */
#define RANKS 4096u
#define PROBE 6u               /* files of a directory that were waited for, which tells that the others will be */
#define COLD 40000             /* ns; what takes longer, and sleeps, has waited for a disk */
#define STORED_MAX (32u << 10) /* bytes of a file that come with its first open */
#define NUMBER_BITS 49         /* of an inode number below the filesystem's rank */
#define TOP_NONE UINT32_MAX
#define EDITS_MAX 256u /* edits that wait to be taken in */
#define FREED_MAX (1 << 20) /* bytes; a filesystem may take longer to free more (fuse/freeing.py) */
#define EDITS_ONCE 4u  /* of one request, at most */
#define SET_IDS (S_ISUID | S_ISGID)
/* In a name's place, beside the upper's share, what is a copy: its number is not its own; it hides what the lowers have */
#define PLACE_KEPT 0x20000000u
#define PLACE_HIDES 0x10000000u
#define PLACE_SHARE 0x0fffffffu
#define FIRST_NUMBER 2u
#define UNOPENED 256u /* files that are open here and that nobody has opened (unopened.c) */
#define UNPRIVILEGED (1ull << 63) /* in a file's handle: whoever opened it has no CAP_FSETID */
#define IN_SOURCE (1ull << 63) /* in a device: it is a source, and the rest is its index */
#define SOURCE_OF(share) (uint32_t)(-2ll - (share)) /* what stands in the place of a descriptor */
#define NOWHERE UINT64_MAX

struct name {
    uint32_t at;    /* in the text: its length, one byte, then the name */
    uint32_t place; /* as lane_place has it */
};

struct directory {
    uint64_t ino, parent;
    char *text;
    struct name *names;
    uint32_t *index; /* by hash: the name's number plus one; 0 none */
    uint32_t count, base, most, mask, text_size, text_room, names_room; /* `base` were handed over */
    int *shares; /* descriptors, -1 where one is closed, or sources */
    uint64_t *references, top_reference; /* of the names that sources have; NULL where there are none */
    uint32_t shares_count;
    uint32_t children; /* numbers that the lane answers for */
    uint32_t top, mode, uid, gid; /* the share whose attributes are shown, or TOP_NONE, and what it must have then */
    bool single;       /* nothing is merged: the links are counted */
    bool makes;        /* the top share is the upper's, and takes new files */
    uint32_t waits; /* files that were waited for */
    bool live, listed, watched;
};

struct inode { /* one that the lane answers for; its device and inode are in its number, or in `own` if that is not 0 */
    uint64_t ino, own;
    struct directory *directory;
    int64_t opened; /* when it had changed last [ns] as it was opened: until it changes it can be opened again; or 0 */
    uint32_t name, lookups, opens, uid, gid;
    int fd; /* -1 while nobody has asked for its data */
    uint16_t mode;
    bool stored;
    uint8_t gone; /* as lane_gone has it: `fd` is an O_PATH one */
    bool written; /* it is open for reading and writing, and reached by its descriptor */
};

struct source { /* who answers for an image; its numbers begin with `rank` */
    lane_source calls;
    uint32_t rank;
};

struct edit { /* what is yet to be taken in */
    uint64_t directory, number;
    uint32_t name, kind;
    int fd; /* of what was made, until it is taken in; or -1 */
    uint64_t device, inode; /* of a directory that was made or set, as it is now */
    uint32_t mode, uid, gid;
};

struct claim { /* a number that others answer for */
    uint64_t ino;
    uint32_t count;
};

struct table { /* entries of `size` bytes that begin with a number; open addressing: one moves when another is removed */
    char *entries;
    uint32_t size, count, mask;
};

struct directories {
    struct directory **entries;
    uint32_t count, mask;
};

struct ahead { /* the directory in which a small file was opened last, and the order of its names that is followed */
    uint64_t directory;
    uint32_t *order; /* NULL while there is none */
    uint32_t count, here, asked, waits, known, last;
    bool by_name; /* the order that was right last */
};

struct pace { /* pace.c */
    int64_t each[2], sum; /* ns from an answer to the next request, by whether one looks meanwhile; 0 not known yet */
    uint32_t count, blocks;
    bool looks, beside; /* where it is beside its client, it does not look */
    uint32_t run;       /* requests that have followed each other closely */
    uint32_t stay, rest, again; /* requests there; until it is tried again, if that was not worth it; and then */
    int64_t stay_sum;   /* ns, of those requests */
};

struct beside { /* beside.c */
    cpu_set_t all; /* where the thread may run, while it is bound */
    int processor; /* the client's, plus one; 0 not known */
    bool bound, late; /* late: a request was, since the client was looked for */
    uint32_t since, every; /* requests since it was looked for, and until it is again */
    int names; /* whether /proc names it as requests do: 1; -1 if not; 0 not known yet */
};

struct lane {
    int device, pair;
    size_t room;
    char *in, *out; /* our own, or of the ring's memory while one message is looked at */
    char *own_in, *own_out;
    struct uring *uring; /* uring.c; NULL where all comes over the device */
    size_t held; /* bytes of `in` that are for others and not sent yet */
    bool told;   /* LANE_LIST has told of what is held */
    uint64_t *met, seconds;
    uint32_t nanoseconds, outstanding;
    int64_t last; /* ns; when the last request was met */
    bool passed; /* something was put on the pair that may be answered, or not */
    uint32_t turn;
    struct pace pace;
    struct beside beside;
    int64_t switches; /* of this thread, on its own account */
    uint64_t slow;    /* a directory, to be told of */
    uint32_t slow_position;
    uint64_t seed;
    struct table numbers, claims;
    struct directories directories;
    struct ahead ahead;
    uint32_t names; /* of all directories */
    uint32_t files, files_max;
    struct { uint64_t device; uint32_t rank; } devices[DEVICES];
    uint32_t devices_count, sources_count;
    struct source *sources;
    bool in_memory; /* nothing is put on the pair (memory.c) */
    bool ready;     /* what is held is for libfuse to take */
    bool no_open; /* the kernel opens files by itself */
    uint64_t unopened[UNOPENED];
    uint32_t unopened_next;
    bool makes, writeback, static_links, room_short;
    uint32_t uid, gid; /* whom new files belong to */
    int64_t room_seen; /* ns; when the free space was looked at */
    struct edit edits[EDITS_MAX];
    uint32_t edits_count, edits_taken;
    int scratch, durable;
    char number_xattr[64]; /* empty: nothing is copied up */
    uint64_t *emptied;
    uint32_t emptied_count, emptied_room;
};

static inline uint64_t mix(uint64_t value) {
    value ^= value >> 32;
    value *= 0x9e3779b97f4a7c15u;
    value ^= value >> 29;
    value *= 0xbf58476d1ce4e5b9u;
    return value ^ value >> 32;
}

static inline uint64_t number_in(uint64_t ino) { return ino & ((1ull << NUMBER_BITS) - 1); }

/* loop.c */
int64_t lane_now(void);
bool lane_waited(struct lane *self, int64_t since);
void answer_counted(struct lane *self, uint64_t unique);

static inline bool is_answered(uint32_t opcode) {
    return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

/* memory.c */
void memory_close(struct lane *self);

/* uring.c */
ssize_t give_answer(struct lane *self, const struct iovec *parts, int count);
ssize_t uring_take(struct lane *self, bool sleeps);
int uring_sleep(struct lane *self, int other, int job, int milliseconds);
int uring_flush(struct lane *self);
bool uring_device_is_due(const struct lane *self);
void uring_device_was_read(struct lane *self, bool some);
bool uring_refuses(const struct lane *self, uint64_t unique);
void uring_forget_others(struct lane *self);

/* pace.c */
void pace_note(struct pace *self, int64_t gap, int64_t following);
enum lane_way pace_way(const struct pace *self);

/* beside.c */
int64_t beside_follow(struct lane *self, uint32_t thread, int64_t gap);
void beside_bind(struct beside *self);
void beside_leave(struct beside *self);

/* tables.c */
struct inode *number_find(struct lane *self, uint64_t ino);
struct inode *number_add(struct lane *self, uint64_t ino);
bool is_taken(struct lane *self, uint64_t ino);
void number_remove(struct lane *self, struct inode *inode);
struct directory *directory_find(struct lane *self, uint64_t ino);
int64_t name_find(const struct lane *self, const struct directory *directory, const char *name, size_t size);
void child_gone(struct lane *self, struct directory *directory);
void inode_forget(struct lane *self, struct inode *inode, uint64_t count);
int name_append(struct lane *self, struct directory *directory, const char *name, size_t size);
void tables_close(struct lane *self);

/* unopened.c */
void data_close(struct lane *self, struct inode *inode);
void unopened_add(struct lane *self, const struct inode *inode);
void unopened_read(struct lane *self, struct inode *inode, const struct fuse_read_in *read, size_t done, int64_t began);

/* answer.c */
bool lane_answer(struct lane *self, size_t size);
bool lane_send(struct lane *self, uint64_t unique, int error, size_t size);
const char *name_in(const void *body, size_t size);
void send_attributes(struct lane *self, const struct fuse_in_header *in, const struct stat *st);
void inode_closed(struct lane *self, struct inode *inode);
int reach(const struct inode *inode, char path[NAME_LIMIT + 1]);
int open_data(struct lane *self, const struct inode *inode, struct stat *st, int access);
bool is_same(struct lane *self, const struct inode *inode, const struct stat *st, bool just);
bool is_shown(const struct directory *directory, const struct stat *st);
/* create.c */
bool answer_create(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size);
bool answer_write(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size);
bool answer_symlink(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size);
struct inode *inode_made(struct lane *self, uint64_t ino);
void note_edit(struct lane *self, uint32_t kind, const struct directory *directory, uint32_t name, uint64_t number);
void note_shown(struct lane *self, uint32_t kind, const struct directory *directory, uint32_t name, uint64_t number,
                int fd, const struct stat *st);
void edits_close(struct lane *self);
int share_for(struct lane *self, const struct fuse_in_header *in, const struct directory *directory);
int upper_of(struct lane *self, const struct directory *directory);
int64_t free_name(struct lane *self, struct directory *directory, const char *name, size_t size);
bool is_mark(const char *name);
/* attributes.c */
bool answer_setxattr(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size);
bool answer_removexattr(struct lane *self, const struct fuse_in_header *in, const char *name, size_t size);
bool answer_setattr(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size);
/* directory.c */
bool answer_mkdir(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size);
/* copyup.c */
int lane_copy_up(struct lane *self, struct inode *inode);
bool open_to_write(struct lane *self, struct inode *inode);
/* remove.c */
bool answer_unlink(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size);
bool gone_attributes(struct lane *self, const struct fuse_in_header *in, const struct inode *inode);
/* rename.c */
bool bring_up(struct lane *self, struct inode *inode);
struct inode *inode_at(struct lane *self, struct directory *directory, uint32_t name, const char *text);
bool answer_rename(struct lane *self, const struct fuse_in_header *in, const char *body, size_t size);
/* ahead.c */
void ahead_forget(struct lane *self, uint64_t directory);
/* answer.c */
int lane_reopen(int pin, int access);
/* list.c */
bool answer_readdir(struct lane *self, const struct fuse_in_header *in, size_t size, bool plus);
bool lane_plain(struct lane *self, int fd, const char *name, const struct stat *st, uint64_t *ino);
bool lane_own(struct lane *self, const struct stat *st, uint64_t *ino);
bool is_single(struct lane *self, const struct stat *st, uint64_t *ino);
bool lane_device(const struct lane *self, uint64_t ino, uint64_t *device);
void fill_attributes(struct fuse_attr *attr, uint64_t ino, const struct stat *st);
void fill_entry(const struct lane *self, struct fuse_entry_out *entry, uint64_t ino, const struct stat *st);
struct inode *inode_shown(struct lane *self, struct directory *directory, uint32_t name, uint64_t ino,
                          const struct stat *st);
/* source.c */
bool share_is_known(const struct lane *self, int share);
bool share_stat(struct lane *self, const struct directory *directory, uint32_t number, struct stat *st);
bool name_stat(struct lane *self, const struct directory *directory, uint32_t name, int share, const char *text,
               struct stat *st);
bool plain_stat(struct lane *self, const struct directory *directory, uint32_t name, int share, const char *text,
                struct stat *st, uint64_t *ino);
bool source_is_bare(struct lane *self, const struct inode *inode, int share);
int64_t source_link(const struct lane *self, const struct inode *inode, int share, char *target, uint32_t room);
bool source_has_data(struct lane *self, const struct inode *inode, int share, struct stat *st);
int64_t source_read(const struct lane *self, const struct inode *inode, int share, uint64_t offset, void *data,
                    uint32_t size);
int64_t source_rank(const struct lane *self, uint64_t device);
uint64_t source_device(const struct lane *self, uint64_t rank);

#define BODY(self) ((self)->out + sizeof(struct fuse_out_header))
#endif
