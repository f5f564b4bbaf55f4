/* Writing: where blocks go, and which are there already. libsquashfs's own block writer compares each file with all blocks
   before it, which is quadratic; this one looks the file's first block up. */
#include "write_image.h"

#define CANDIDATES 64 /* earlier blocks with the same hash that are tried: bounds the time of hostile content */
#define NONE UINT64_MAX /* end of a chain */

static struct chain *chain_of(struct block_writer *b, uint64_t hash)
{
	return &b->chains[((hash * 0x9E3779B97F4A7C15u) >> 20) & (b->chain_count - 1)];
}

static void chain_append(struct block_writer *b, uint64_t index)
{
	struct chain *chain = chain_of(b, b->blocks[index].hash);

	b->blocks[index].next = NONE;
	if (chain->first == NONE)
		chain->first = index;
	else
		b->blocks[chain->last].next = index;
	chain->last = index;
}

static int chains_grow(struct block_writer *b)
{
	uint64_t count = b->chain_count ? b->chain_count * 4 : 1024, i;
	struct chain *chains = malloc(count * sizeof(*chains));

	if (chains == NULL)
		return SQFS_ERROR_ALLOC;
	for (i = 0; i < count; ++i)
		chains[i].first = chains[i].last = NONE;
	free(b->chains);
	b->chains = chains;
	b->chain_count = count;
	for (i = 0; i < b->indexed; ++i)
		chain_append(b, i);
	return 0;
}

static int index_blocks(struct block_writer *b)
{
	int error;

	if (b->count > b->chain_count && (error = chains_grow(b)) != 0)
		return error;
	for (; b->indexed < b->count; ++b->indexed)
		chain_append(b, b->indexed);
	return 0;
}

static int remember_block(struct block_writer *b, uint64_t position, uint64_t hash)
{
	if (b->count == b->room) {
		uint64_t room = b->room ? b->room * 2 : 1024;
		struct block *blocks = realloc(b->blocks, room * sizeof(*blocks));

		if (blocks == NULL)
			return SQFS_ERROR_ALLOC;
		b->blocks = blocks;
		b->room = room;
	}
	b->blocks[b->count++] = (struct block){.position = position, .hash = hash, .next = NONE};
	return 0;
}

static int same_bytes(struct target *t, uint64_t one, uint64_t other, uint64_t size, bool *same)
{
	uint8_t left[16384], right[16384];
	int error;

	*same = true;
	while (size > 0 && *same) {
		size_t part = size < sizeof(left) ? size : sizeof(left);

		if ((error = t->base.read_at(&t->base, one, left, part)) != 0 ||
		    (error = t->base.read_at(&t->base, other, right, part)) != 0)
			return error;
		*same = memcmp(left, right, part) == 0;
		one += part;
		other += part;
		size -= part;
	}
	return 0;
}

static bool same_hashes(const struct block_writer *b, uint64_t candidate, uint64_t count)
{
	uint64_t i;

	if (candidate + count > b->file_first)
		return false;
	for (i = 0; i < count; ++i)
		if (b->blocks[candidate + i].hash != b->blocks[b->file_first + i].hash)
			return false;
	return true;
}

/* Find the first earlier run of blocks that equals the file just written. */
static int find_duplicate(struct block_writer *b, uint64_t count, uint64_t *found)
{
	uint64_t hash = b->blocks[b->file_first].hash, size = b->target->size - b->file_start, at;
	int tried = 0, error;
	bool same;

	*found = NONE;
	if (b->chain_count == 0)
		return 0;
	for (at = chain_of(b, hash)->first; at != NONE && tried < CANDIDATES; at = b->blocks[at].next) {
		if (b->blocks[at].hash != hash)
			continue;
		++tried;
		if (!same_hashes(b, at, count))
			continue;
		error = same_bytes(b->target, b->blocks[at].position, b->file_start, size, &same);
		if (error)
			return error;
		if (same) {
			*found = at;
			return 0;
		}
	}
	return 0;
}

static int end_of_file(struct block_writer *b, bool deduplicate, sqfs_u64 *location)
{
	uint64_t count = b->count - b->file_first, found = NONE;
	int error;

	b->in_file = false;
	*location = count ? b->file_start : 0;
	if (count && deduplicate && (error = find_duplicate(b, count, &found)) != 0)
		return error;
	if (found == NONE)
		return index_blocks(b);
	*location = b->blocks[found].position;
	b->count = b->file_first;
	b->target->size = b->file_start;
	return 0;
}

static int block_write(sqfs_block_writer_t *base, void *user, sqfs_u32 size, sqfs_u32 checksum, sqfs_u32 flags,
		       const sqfs_u8 *data, sqfs_u64 *location)
{
	struct block_writer *b = (struct block_writer *)base;
	int error;

	(void)user;
	*location = b->target->size;
	if (__atomic_load_n(&b->given_up, __ATOMIC_RELAXED))
		return 0;
	if (flags & SQFS_BLK_FIRST_BLOCK) {
		b->file_start = b->target->size;
		b->file_first = b->count;
		b->in_file = true;
	} else if (b->in_file == ((flags & SQFS_BLK_FRAGMENT_BLOCK) != 0)) {
		return SQFS_ERROR_SEQUENCE; /* a file's blocks come together, or else runs were no ranges */
	}
	if (size != 0 && !(flags & SQFS_BLK_IS_SPARSE)) {
		uint64_t hash = (uint64_t)size << 33 | (uint64_t)!!(flags & SQFS_BLK_IS_COMPRESSED) << 32 | checksum;

		if ((error = remember_block(b, b->target->size, hash)) != 0 ||
		    (error = b->target->base.write_at(&b->target->base, b->target->size, data, size)) != 0)
			return error;
	}
	if (flags & SQFS_BLK_LAST_BLOCK)
		return end_of_file(b, !(flags & SQFS_BLK_DONT_DEDUPLICATE), location);
	return b->in_file ? 0 : index_blocks(b);
}

static sqfs_u64 block_count(const sqfs_block_writer_t *base)
{
	return ((const struct block_writer *)base)->count;
}

void sw_blocks_begin(struct block_writer *b, struct target *t)
{
	b->base = (sqfs_block_writer_t){
		.base = {.destroy = sw_keep, .copy = NULL},
		.write_data_block = block_write,
		.get_block_count = block_count,
	};
	b->target = t;
}

void sw_blocks_end(struct block_writer *b)
{
	free(b->blocks);
	free(b->chains);
}
