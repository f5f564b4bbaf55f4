/* Uncompressed blocks for who answers without Python: those that were used last, of all images of the process together.
 * Small files share fragment blocks, and a client goes from one to the next. */
#include "read_image.h"

#include <stdlib.h>
#include <string.h>

#define CACHED_MOST (8 << 20) /* bytes, uncompressed; guessed: the current fragment of each of 64 images */
#define ENTRIES 256

struct cached { /* `data` is NULL while unused; a block is known by where and how it is stored */
	const squash_image *image;
	uint64_t position, used;
	uint32_t stored, length, room;
	unsigned char *data;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cached entries[ENTRIES];
static uint64_t clock_now, held;

static void drop(struct cached *entry)
{
	held -= entry->room;
	free(entry->data);
	*entry = (struct cached){0};
}

static struct cached *find(const squash_image *image, uint64_t position, uint32_t stored)
{
	for (struct cached *entry = entries; entry < entries + ENTRIES; entry++)
		if (entry->data && entry->position == position && entry->image == image && entry->stored == stored)
			return entry;
	return NULL;
}

/* Return an unused entry, with room for a block; what was used longest ago goes. */
static struct cached *make_room(uint32_t room)
{
	for (;;) {
		struct cached *unused = NULL, *oldest = NULL;

		for (struct cached *entry = entries; entry < entries + ENTRIES; entry++) {
			if (!entry->data)
				unused = entry;
			else if (!oldest || entry->used < oldest->used)
				oldest = entry;
		}
		if (unused && (held + room <= CACHED_MOST || !oldest))
			return unused;
		drop(oldest);
	}
}

static int64_t load(squash_image *image, uint64_t position, uint32_t stored, struct cached **result)
{
	uint32_t room = image->super.block_size;
	struct cached *entry = make_room(room);
	int64_t status;

	entry->data = calloc(1, room); /* zeroed: lzma may leave parts untouched */
	if (!entry->data)
		return failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
	held += entry->room = room;
	status = squash_load(image, position, stored, entry->data, room);
	if (status < 0) {
		drop(entry);
		return status;
	}
	entry->image = image;
	entry->position = position;
	entry->stored = stored;
	entry->length = status;
	*result = entry;
	return 0;
}

/* Copy bytes out of a piece, whose block is loaded first if it is not here; all of the piece must be in it. */
int64_t cache_read(squash_image *image, const struct piece *piece, uint64_t offset, void *data, uint32_t length)
{
	struct cached *entry;
	int64_t status = 0;

	pthread_mutex_lock(&lock);
	entry = find(image, piece->position, piece->stored);
	if (!entry)
		status = load(image, piece->position, piece->stored, &entry);
	if (status == 0 && (uint64_t)piece->start + piece->length > entry->length)
		status = corrupt(WHY_BLOCK_DATA);
	if (status == 0) {
		entry->used = ++clock_now;
		memcpy(data, entry->data + piece->start + offset, length);
	}
	pthread_mutex_unlock(&lock);
	return status;
}

void cache_forget(const squash_image *image)
{
	pthread_mutex_lock(&lock);
	for (struct cached *entry = entries; entry < entries + ENTRIES; entry++)
		if (entry->data && entry->image == image)
			drop(entry);
	pthread_mutex_unlock(&lock);
}

int64_t squash_answers_hold(void)
{
	int64_t size;

	pthread_mutex_lock(&lock);
	size = held;
	pthread_mutex_unlock(&lock);
	return size;
}
