/* The tables: numbers that the lane or others answer for, and directories with their names. */

#include "state.h"

#include <unistd.h>

/* Numbers */

static inline uint64_t key_of(const char *entry) {
    uint64_t key;
    memcpy(&key, entry, sizeof key);
    return key;
}

static inline char *entry_at(const struct table *table, uint32_t at) {
    return table->entries + (size_t)at * table->size;
}

static uint32_t home_of(const struct lane *self, const struct table *table, uint64_t ino) {
    return (uint32_t)mix(ino ^ self->seed) & table->mask;
}

static void *entry_find(const struct lane *self, const struct table *table, uint64_t ino) {
    if (!table->entries || !ino) return NULL;
    for (uint32_t at = home_of(self, table, ino);; at = (at + 1) & table->mask) {
        char *entry = entry_at(table, at);
        if (key_of(entry) == ino) return entry;
        if (!key_of(entry)) return NULL;
    }
}

static int table_resize(const struct lane *self, struct table *table, uint64_t room) {
    struct table old = *table;
    char *entries = room <= 1u << 31 ? calloc(room, table->size) : NULL;
    if (!entries) return -ENOMEM;
    table->entries = entries;
    table->mask = (uint32_t)room - 1;
    for (uint32_t from = 0; old.entries && from <= old.mask; from++) {
        uint64_t ino = key_of(entry_at(&old, from));
        if (!ino) continue;
        uint32_t at = home_of(self, table, ino);
        while (key_of(entry_at(table, at))) at = (at + 1) & table->mask;
        memcpy(entry_at(table, at), entry_at(&old, from), table->size);
    }
    free(old.entries);
    return 0;
}

/* Return the entry of a number, an empty one if there is none; NULL without memory. Other entries may have moved. */
static void *entry_add(const struct lane *self, struct table *table, size_t size, uint64_t ino) {
    void *found = entry_find(self, table, ino);
    if (found || !ino) return found;
    table->size = (uint32_t)size;
    if (!table->entries || table->count >= table->mask - table->mask / 8) {
        if (table_resize(self, table, table->entries ? ((uint64_t)table->mask + 1) * 2 : 256)) return NULL;
    }
    uint32_t at = home_of(self, table, ino);
    while (key_of(entry_at(table, at))) at = (at + 1) & table->mask;
    memcpy(entry_at(table, at), &ino, sizeof ino);
    table->count++;
    return entry_at(table, at);
}

static void entry_remove(const struct lane *self, struct table *table, const void *entry) {
    uint32_t hole = (uint32_t)(((const char *)entry - table->entries) / table->size), at = hole;
    for (;;) { /* what follows moves up, as far as it may: no entry may have a hole before it */
        at = (at + 1) & table->mask;
        uint64_t ino = key_of(entry_at(table, at));
        if (!ino) break;
        if (((at - home_of(self, table, ino)) & table->mask) >= ((at - hole) & table->mask)) {
            memcpy(entry_at(table, hole), entry_at(table, at), table->size);
            hole = at;
        }
    }
    memset(entry_at(table, hole), 0, table->size);
    table->count--;
    if (table->mask >= 1u << 14 && table->count < table->mask / 8)
        table_resize(self, table, ((uint64_t)table->mask + 1) / 2);
}

struct inode *number_find(struct lane *self, uint64_t ino) { return entry_find(self, &self->numbers, ino); }

/* Return the entry of a number, a new one if there is none; NULL without memory, or if others answer for it. */
struct inode *number_add(struct lane *self, uint64_t ino) {
    if (entry_find(self, &self->claims, ino)) return NULL;
    uint32_t count = self->numbers.count;
    struct inode *inode = entry_add(self, &self->numbers, sizeof *inode, ino);
    if (inode && self->numbers.count != count) inode->fd = -1;
    return inode;
}

/* Tell whether somebody answers for a number. */
bool is_taken(struct lane *self, uint64_t ino) {
    return number_find(self, ino) || entry_find(self, &self->claims, ino) || directory_find(self, ino);
}

void number_remove(struct lane *self, struct inode *inode) { entry_remove(self, &self->numbers, inode); }

int lane_claim(lane *self, uint64_t number) {
    if (number_find(self, number)) return -EEXIST; /* it was not taken before */
    struct claim *claim = entry_add(self, &self->claims, sizeof *claim, number);
    if (!claim) return -ENOMEM;
    claim->count++;
    return 0;
}

void lane_disclaim(lane *self, uint64_t number) {
    struct claim *claim = entry_find(self, &self->claims, number);
    if (claim && claim->count && !--claim->count) entry_remove(self, &self->claims, claim);
}

/* Take back lookups; the entry goes with the last, unless somebody has the file open. */
void inode_forget(struct lane *self, struct inode *inode, uint64_t count) {
    inode->lookups = count < inode->lookups ? inode->lookups - (uint32_t)count : 0;
    if (inode->lookups || inode->opens) return;
    struct directory *directory = inode->directory;
    data_close(self, inode);
    number_remove(self, inode);
    child_gone(self, directory);
}

int lane_take(lane *self, uint64_t number, lane_taken *taken) {
    struct inode *inode = number_find(self, number);
    uint64_t device;
    uint64_t own = inode && inode->own ? inode->own : number;
    if (!inode || !lane_device(self, own, &device)) return 0;
    if (!inode->opens && !inode->gone) data_close(self, inode); /* it is opened again when it is read again */
    struct directory *directory = inode->directory;
    const char *name = directory->text + directory->names[inode->name].at;
    *taken = (lane_taken){
        .parent = directory->ino, .lookups = inode->lookups, .device = device, .number = number_in(own),
        .mode = inode->mode, .uid = inode->uid, .gid = inode->gid, .opens = inode->opens, .fd = inode->fd,
        .stored = inode->stored, .written = inode->written, .gone = inode->gone, .size = (uint8_t)name[0],
    };
    memcpy(taken->name, name + 1, taken->size);
    if (inode->fd >= 0) self->files--;
    number_remove(self, inode);
    child_gone(self, directory);
    return 1;
}

int lane_give(lane *self, const lane_taken *given) {
    struct directory *directory = directory_find(self, given->parent);
    struct stat st = {.st_dev = given->device, .st_ino = given->number, .st_mode = given->mode, .st_uid = given->uid,
                      .st_gid = given->gid};
    uint64_t ino;
    if (!directory || !directory->live || !given->lookups || given->lookups >= UINT32_MAX) return 0;
    int64_t name = name_find(self, directory, given->name, given->size);
    if (name < 0 || (directory->names[name].place & ~PLACE_HIDES) >= directory->shares_count) return 0;
    if (!lane_own(self, &st, &ino) || number_find(self, ino)) return 0;
    struct inode *inode = inode_shown(self, directory, (uint32_t)name, ino, &st);
    if (!inode) return 0;
    inode->lookups = (uint32_t)given->lookups;
    inode->stored = given->stored;
    return 1;
}

/* Directories */

static uint32_t directory_at(const struct lane *self, uint64_t ino) {
    return (uint32_t)mix(ino ^ self->seed) & self->directories.mask;
}

struct directory *directory_find(struct lane *self, uint64_t ino) {
    struct directories *table = &self->directories;
    if (!table->entries) return NULL;
    for (uint32_t at = directory_at(self, ino); table->entries[at]; at = (at + 1) & table->mask)
        if (table->entries[at]->ino == ino) return table->entries[at];
    return NULL;
}

static int directory_put(struct lane *self, struct directory *directory) {
    struct directories *table = &self->directories;
    if (!table->entries || table->count >= table->mask / 2) {
        struct directories old = *table;
        uint32_t room = old.entries ? (old.mask + 1) * 2 : 256;
        struct directory **entries = room ? calloc(room, sizeof *entries) : NULL;
        if (!entries) return -ENOMEM;
        table->entries = entries;
        table->mask = room - 1;
        for (uint32_t from = 0; old.entries && from <= old.mask; from++) {
            if (!old.entries[from]) continue;
            uint32_t at = directory_at(self, old.entries[from]->ino);
            while (entries[at]) at = (at + 1) & table->mask;
            entries[at] = old.entries[from];
        }
        free(old.entries);
    }
    uint32_t at = directory_at(self, directory->ino);
    while (table->entries[at]) at = (at + 1) & table->mask;
    table->entries[at] = directory;
    table->count++;
    return 0;
}

static void directory_free(struct directory *directory) {
    free(directory->text);
    free(directory->names);
    free(directory->index);
    free(directory->shares);
    free(directory->references);
    free(directory);
}

static void directory_remove(struct lane *self, struct directory *directory) {
    ahead_forget(self, directory->ino);
    struct directories *table = &self->directories;
    uint32_t hole = directory_at(self, directory->ino);
    while (table->entries[hole] != directory) hole = (hole + 1) & table->mask;
    for (uint32_t at = hole;;) {
        at = (at + 1) & table->mask;
        if (!table->entries[at]) break;
        uint32_t home = directory_at(self, table->entries[at]->ino);
        if (((at - home) & table->mask) >= ((at - hole) & table->mask)) {
            table->entries[hole] = table->entries[at];
            hole = at;
        }
    }
    table->entries[hole] = NULL;
    table->count--;
    self->names -= directory->count;
    directory_free(directory);
}

static uint32_t name_hash(const struct lane *self, const char *name, size_t size) {
    uint64_t hash = self->seed, word;
    for (; size >= 8; name += 8, size -= 8) {
        memcpy(&word, name, 8);
        hash = mix(hash ^ word);
    }
    word = size;
    memcpy(&word, name, size);
    return (uint32_t)mix(hash ^ word ^ (uint64_t)size << 56);
}

int64_t name_find(const struct lane *self, const struct directory *directory, const char *name, size_t size) {
    uint32_t at = name_hash(self, name, size) & directory->mask;
    for (; directory->index[at]; at = (at + 1) & directory->mask) {
        const char *found = directory->text + directory->names[directory->index[at] - 1].at;
        if ((uint8_t)found[0] == size && !memcmp(found + 1, name, size)) return directory->index[at] - 1;
    }
    return -1;
}

static void index_put(const struct lane *self, struct directory *directory, uint32_t number) {
    const char *name = directory->text + directory->names[number].at;
    uint32_t at = name_hash(self, name + 1, (uint8_t)name[0]) & directory->mask;
    while (directory->index[at]) at = (at + 1) & directory->mask;
    directory->index[at] = number + 1;
}

static int index_build(const struct lane *self, struct directory *directory, uint32_t names) {
    uint32_t room = 8;
    while (room < names * 2) room *= 2;
    uint32_t *index = calloc(room, sizeof *index);
    if (!index) return -ENOMEM;
    free(directory->index);
    directory->index = index;
    directory->mask = room - 1;
    for (uint32_t number = 0; number < directory->count; number++) index_put(self, directory, number);
    return 0;
}

/* Copy the names, each with its length in the place of the NUL that ended the one before. */
static int names_copy(struct directory *directory, const char *names, size_t size, const uint32_t *places,
                      uint32_t count) {
    size_t at = 0;
    for (uint32_t number = 0; number < count; number++) {
        const char *end = at < size ? memchr(names + at, 0, size - at) : NULL;
        size_t length = end ? (size_t)(end - (names + at)) : 0;
        uint32_t place = places[number];
        if (!length || length > NAME_LIMIT) return -EINVAL;
        if (place != LANE_ASK && (place & ~(uint32_t)LANE_DIRECTORY) >= directory->shares_count) return -EINVAL;
        directory->text[at] = (char)length;
        memcpy(directory->text + at + 1, names + at, length);
        directory->names[number] = (struct name){(uint32_t)at, place};
        at += length + 1;
    }
    directory->count = directory->base = count;
    directory->most = count + (count > EXTRA_MIN ? count : EXTRA_MIN);
    directory->text_size = directory->text_room = (uint32_t)at;
    return at == size ? 0 : -EINVAL;
}

int lane_directory(lane *self, uint64_t number, uint64_t parent, const char *names, size_t size,
                   const uint32_t *places, uint32_t count, const int *shares, uint32_t shares_count,
                   const uint64_t *references) {
    if (directory_find(self, number)) return -EEXIST;
    for (uint32_t share = 0; share < shares_count; share++)
        if (!share_is_known(self, shares[share])) return -EINVAL;
    if (count > NAMES_MAX - self->names || size > (1u << 31) || shares_count >= PLACE_HIDES) return -ENOSPC;
    struct directory *directory = calloc(1, sizeof *directory);
    if (!directory) return -ENOMEM;
    *directory = (struct directory){.ino = number, .parent = parent, .shares_count = shares_count, .live = true,
                                    .listed = true, .names_room = count, .top = TOP_NONE};
    directory->text = malloc(size + 1);
    directory->names = malloc(((size_t)count + 1) * sizeof *directory->names);
    directory->shares = malloc(((size_t)shares_count + 1) * sizeof *directory->shares);
    if (references) directory->references = malloc(((size_t)count + 1) * sizeof *references);
    int error = -ENOMEM;
    if (directory->text && directory->names && directory->shares && (directory->references || !references)) {
        if (references) memcpy(directory->references, references, count * sizeof *references);
        memcpy(directory->shares, shares, shares_count * sizeof *shares);
        error = names_copy(directory, names, size, places, count);
    }
    if (!error) error = index_build(self, directory, count);
    if (!error) error = directory_put(self, directory);
    if (error) {
        directory_free(directory);
        return error;
    }
    self->names += count;
    return 0;
}

void lane_top(lane *self, uint64_t number, uint32_t share, int single, int makes, uint32_t mode, uint32_t uid,
              uint32_t gid, uint64_t reference) {
    struct directory *directory = directory_find(self, number);
    if (!directory) return;
    directory->top_reference = reference;
    directory->top = share < directory->shares_count ? share : TOP_NONE;
    directory->single = single;
    directory->makes = makes;
    directory->mode = mode;
    directory->uid = uid;
    directory->gid = gid;
}

void lane_drop(lane *self, uint64_t number) {
    struct directory *directory = directory_find(self, number);
    if (!directory) return;
    directory->live = directory->listed = false;
    for (uint32_t share = 0; share < directory->shares_count; share++) directory->shares[share] = -1;
    if (!directory->children) directory_remove(self, directory);
}

void lane_share(lane *self, uint64_t number, uint32_t share, int fd) {
    struct directory *directory = directory_find(self, number);
    if (directory && directory->live && share < directory->shares_count) directory->shares[share] = fd;
}

/* Tell whether a directory may gain more names: those that are gone, or others', take room until all is handed over anew. */
static bool may_grow(struct directory *directory) {
    uint32_t idle = 0;
    if (directory->count < directory->most) return true;
    for (uint32_t name = 0; name < directory->count; name++) {
        uint32_t place = directory->names[name].place;
        idle += place == LANE_GONE || place == LANE_ASK;
    }
    if (idle > directory->count / 2) return false;
    directory->most = 2 * directory->count;
    return true;
}

int name_append(struct lane *self, struct directory *directory, const char *name, size_t size) {
    if (self->names >= NAMES_MAX || !may_grow(directory)) return -ENOSPC;
    if (directory->count == directory->names_room) {
        uint32_t room = directory->names_room + directory->names_room / 4 + 16;
        struct name *grown = realloc(directory->names, (size_t)room * sizeof *grown);
        if (!grown) return -ENOMEM;
        directory->names = grown;
        directory->names_room = room;
    }
    if (directory->text_room - directory->text_size < size + 1) {
        uint64_t room = (uint64_t)directory->text_size + directory->text_size / 4 + 1024;
        char *grown = room < UINT32_MAX ? realloc(directory->text, room) : NULL;
        if (!grown) return -ENOMEM;
        directory->text = grown;
        directory->text_room = (uint32_t)room;
    }
    if ((directory->count + 1) * 2 > directory->mask && index_build(self, directory, directory->count + 64))
        return -ENOMEM;
    directory->text[directory->text_size] = (char)size;
    memcpy(directory->text + directory->text_size + 1, name, size);
    directory->names[directory->count] = (struct name){directory->text_size, LANE_ASK};
    directory->text_size += (uint32_t)size + 1;
    index_put(self, directory, directory->count++);
    self->names++;
    return 0;
}

int lane_change(lane *self, uint64_t number, const char *name, size_t size, uint32_t place) {
    struct directory *directory = directory_find(self, number);
    if (!directory || !directory->live) return 0;
    if (!size || size > NAME_LIMIT || (place != LANE_ASK && place != LANE_GONE)) return -EINVAL;
    int64_t found = name_find(self, directory, name, size);
    if (found < 0 && place == LANE_GONE) return 0;
    if (found < 0) {
        int error = name_append(self, directory, name, size);
        if (error) return error;
        found = directory->count - 1;
    }
    directory->names[found].place = place;
    return 0;
}

void lane_relist(lane *self, uint64_t number) {
    struct directory *directory = directory_find(self, number);
    if (directory) directory->listed = false;
}

uint32_t lane_children(lane *self, uint64_t number) {
    struct directory *directory = directory_find(self, number);
    if (!directory || !directory->children) return 0;
    directory->watched = true;
    return directory->children;
}

/* Count a number less in a directory. */
void child_gone(struct lane *self, struct directory *directory) {
    if (--directory->children) return;
    if (directory->watched && self->emptied_count == self->emptied_room) {
        uint32_t room = self->emptied_room * 2 + 16;
        uint64_t *grown = realloc(self->emptied, room * sizeof *grown);
        if (grown) {
            self->emptied = grown;
            self->emptied_room = room;
        }
    }
    if (directory->watched && self->emptied_count < self->emptied_room) {
        self->emptied[self->emptied_count++] = directory->ino;
        directory->watched = false;
    }
    if (!directory->live) directory_remove(self, directory);
}

uint64_t lane_emptied(lane *self) {
    return self->emptied_count ? self->emptied[--self->emptied_count] : 0;
}

int lane_rank(lane *self, uint64_t device, uint32_t rank) {
    for (uint32_t at = 0; at < self->devices_count; at++)
        if (self->devices[at].device == device) return 0;
    if (self->devices_count == DEVICES || rank >= RANKS) return -ENOSPC;
    self->devices[self->devices_count].device = device;
    self->devices[self->devices_count++].rank = rank;
    return 0;
}

uint64_t lane_any(const lane *self) {
    for (uint32_t at = 0; self->numbers.count && at <= self->numbers.mask; at++)
        if (key_of(entry_at(&self->numbers, at))) return key_of(entry_at(&self->numbers, at));
    return 0;
}

void tables_close(struct lane *self) {
    for (uint32_t at = 0; self->numbers.entries && at <= self->numbers.mask; at++) {
        struct inode inode;
        memcpy(&inode, entry_at(&self->numbers, at), sizeof inode);
        if (inode.ino && inode.fd >= 0) close(inode.fd);
    }
    for (uint32_t at = 0; self->directories.entries && at <= self->directories.mask; at++)
        if (self->directories.entries[at]) directory_free(self->directories.entries[at]);
    free(self->numbers.entries);
    free(self->claims.entries);
    free(self->directories.entries);
    free(self->emptied);
    free(self->ahead.order);
    free(self->sources);
}
