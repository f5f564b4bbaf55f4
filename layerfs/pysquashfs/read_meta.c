/* Metadata: blocks of 8 KiB, each compressed by itself, and the tables made of them.
 *
 * Not sqfs_meta_reader_t: that one keeps a single block, so a listing and its inodes would evict each other.
 */
#include "read_image.h"

#include <stdlib.h>
#include <string.h>

#define META_PLAIN 0x8000

static struct meta_block *slot_for(squash_image *image, uint64_t at, bool *found)
{
	struct meta_block *set = image->blocks[(at * 0x9e3779b97f4a7c15u) >> 60];
	struct meta_block *oldest = set;

	for (int way = 0; way < META_WAYS; way++) {
		*found = set[way].at == at;
		if (*found)
			return &set[way];
		if (set[way].used < oldest->used)
			oldest = &set[way];
	}
	return oldest;
}

static int64_t decompress(squash_image *image, const unsigned char *stored, uint32_t size, struct meta_block *block)
{
	sqfs_s32 length = image->compressor->do_block(image->compressor, stored, size, block->data, META_SIZE);

	if (length <= 0 || length > META_SIZE)
		return failure(SQFS_ERROR_COMPRESSOR, WHY_META_DATA, 0);
	block->length = length;
	return 0;
}

/* Fill a slot with the block at `at`; the slot holds nothing when that fails. */
static int64_t fill(squash_image *image, uint64_t at, uint64_t limit, struct meta_block *block)
{
	uint64_t room = limit - at;
	uint32_t size;
	int64_t status;

	block->at = 0;
	if (!block->data && !(block->data = calloc(1, META_SIZE))) /* zeroed: lzma may leave parts untouched */
		return failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
	status = image_read(image, at, image->stored, room < sizeof(image->stored) ? room : sizeof(image->stored));
	if (status < 0)
		return status;
	size = le16(image->stored) & ~META_PLAIN;
	if (size == 0 || size > META_SIZE || size + 2 > room)
		return corrupt(WHY_META_SIZE_WRONG);
	if (le16(image->stored) & META_PLAIN) {
		memcpy(block->data, image->stored + 2, size);
		block->length = size;
	} else {
		status = decompress(image, image->stored + 2, size, block);
		if (status < 0)
			return status;
	}
	block->at = at;
	block->next = at + 2 + size;
	return 0;
}

static int64_t get(squash_image *image, uint64_t at, uint64_t limit, struct meta_block **result)
{
	bool found;

	if (limit > image->super.bytes_used)
		limit = image->super.bytes_used;
	if (at < SUPER_SIZE || limit < 3 || at > limit - 3)
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_META_PLACE, 0);
	*result = slot_for(image, at, &found);
	if (!found) {
		int64_t status = fill(image, at, limit, *result);
		if (status < 0)
			return status;
	}
	(*result)->used = ++image->clock;
	return 0;
}

/* Move over `length` bytes, which may lie in several blocks, and copy them where `data` is given. */
static int64_t move(squash_image *image, struct cursor *cursor, unsigned char *data, size_t length)
{
	while (length > 0) {
		struct meta_block *block;
		size_t part;
		int64_t status = get(image, cursor->block, cursor->limit, &block);

		if (status < 0)
			return status;
		if (cursor->offset > block->length)
			return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_META_OFFSET, 0);
		part = block->length - cursor->offset;
		if (part == 0) {
			cursor->block = block->next;
			cursor->offset = 0;
			continue;
		}
		part = part < length ? part : length;
		if (data) {
			memcpy(data, block->data + cursor->offset, part);
			data += part;
		}
		cursor->offset += part;
		length -= part;
	}
	return 0;
}

int64_t meta_read(squash_image *image, struct cursor *cursor, void *data, size_t length)
{
	return move(image, cursor, data, length);
}

int64_t meta_skip(squash_image *image, struct cursor *cursor, size_t length)
{
	return move(image, cursor, NULL, length);
}

/* The start of a table's block: `table` is where the list of its blocks' positions lies, behind all of them. */
static int64_t table_block(const squash_image *image, uint64_t table, uint64_t number, struct cursor *cursor)
{
	unsigned char place[8];
	int64_t status;

	if (table == NOWHERE || !image_holds(image, table, (number + 1) * sizeof(place)))
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_TABLE, 0);
	status = image_read(image, table + number * sizeof(place), place, sizeof(place));
	*cursor = (struct cursor){.block = le64(place), .limit = table};
	return status;
}

/* Entry `index` of a table; `length` divides META_SIZE, so that none lies in two blocks. */
int64_t meta_entry(squash_image *image, uint64_t table, uint64_t index, void *data, size_t length)
{
	uint64_t each = META_SIZE / length;
	struct cursor cursor;
	int64_t status = table_block(image, table, index / each, &cursor);

	cursor.offset = index % each * length;
	return status < 0 ? status : meta_read(image, &cursor, data, length);
}

int64_t meta_ids(squash_image *image)
{
	const uint32_t each = META_SIZE / 4, count = image->super.id_count;
	unsigned char *raw;
	int64_t status = 0;

	if (image->ids)
		return 0;
	raw = malloc(count * 4);
	if (!raw)
		return failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
	for (uint32_t i = 0; status == 0 && i < count; i += each) {
		struct cursor cursor;
		status = table_block(image, image->super.id_table, i / each, &cursor);
		if (status == 0)
			status = meta_read(image, &cursor, raw + i * 4, (count - i < each ? count - i : each) * 4);
	}
	if (status < 0) {
		free(raw);
		return status;
	}
	image->ids = (uint32_t *)raw;
	for (uint32_t i = 0; i < count; i++)
		image->ids[i] = le32(raw + i * 4);
	return 0;
}

void meta_forget(squash_image *image)
{
	for (int set = 0; set < META_SETS; set++)
		for (int way = 0; way < META_WAYS; way++)
			free(image->blocks[set][way].data);
}
