/* Where a file's bytes lie: the list of its blocks, and the fragment that its end is in. */
#include "read_image.h"

#include <sys/stat.h>

#define PIECES_MOST (sizeof(((squash_blocks *)0)->records) / sizeof(struct piece))
#define SCAN 65536 /* blocks looked at in one call, which holds the image's lock: 1 ms where they compress well */

_Static_assert(sizeof(struct piece) == 28, "Python counts on this");

static int64_t take_fragment(squash_image *image, const struct inode *inode, squash_blocks *blocks)
{
	uint32_t tail = inode->record.size % image->super.block_size;
	unsigned char entry[16];
	int64_t status;

	if (inode->fragment >= image->super.fragment_count || inode->fragment_offset > image->super.block_size ||
	    tail > image->super.block_size - inode->fragment_offset)
		return corrupt(WHY_FRAGMENT);
	status = meta_entry(image, image->super.fragment_table, inode->fragment, entry, sizeof(entry));
	if (status < 0)
		return status;
	blocks->fragment_position = le64(entry);
	blocks->fragment_stored = le32(entry + 8);
	blocks->fragment_start = inode->fragment_offset;
	if (!image_holds(image, le64(entry), blocks->fragment_stored & 0xffffff))
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_BLOCK_PLACE, 0);
	return 0;
}

/* What a list of block sizes may be: every metadata block left in the table, of 3 bytes at least, decompressed. */
static bool list_fits(const squash_image *image, uint64_t count)
{
	uint64_t room = image->super.directory_table - image->super.inode_table;

	return count <= (room / 3 + 1) * (META_SIZE / 4);
}

int64_t squash_blocks_start(squash_image *image, uint64_t ref, squash_blocks *blocks)
{
	uint32_t block_size = image->super.block_size;
	struct inode inode;
	int64_t status;

	pthread_mutex_lock(&image->lock);
	status = inode_read(image, ref, &inode);
	if (status == 0 && !S_ISREG(inode.record.mode))
		status = failure(SQFS_ERROR_NOT_FILE, WHY_NOT_FILE, 0);
	if (status == 0) {
		blocks->block = inode.rest.block;
		blocks->offset = inode.rest.offset;
		blocks->position = inode.start;
		blocks->size = inode.record.size;
		blocks->done = 0;
		blocks->total = inode.record.size / block_size;
		blocks->fragment_position = -1;
		if (inode.record.size % block_size && inode.fragment == NO_FRAGMENT)
			blocks->total++;
		else if (inode.record.size % block_size)
			status = take_fragment(image, &inode, blocks);
		if (status == 0 && !list_fits(image, blocks->total))
			status = failure(SQFS_ERROR_OVERFLOW, WHY_FILE_SIZE, 0);
	}
	pthread_mutex_unlock(&image->lock);
	return status;
}

static int64_t take_piece(const squash_image *image, squash_blocks *blocks, uint32_t stored, struct piece *piece)
{
	uint32_t size = stored & 0xffffff;
	uint64_t offset = blocks->done * image->super.block_size, left = blocks->size - offset;

	if (stored >> 25 || size > image->super.block_size)
		return corrupt(WHY_BLOCK_STORED);
	if (size && !image_holds(image, blocks->position, size))
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_BLOCK_PLACE, 0);
	*piece = (struct piece){
		.offset = offset, .length = left < image->super.block_size ? left : image->super.block_size,
		.position = size ? (int64_t)blocks->position : -1, .stored = size ? stored : 0,
	};
	blocks->position += size;
	blocks->done++;
	return 0;
}

/* Read on in the list of blocks, up to `most` pieces or SCAN of them: a list that is one hole may have millions. */
static int64_t take_pieces(squash_image *image, squash_blocks *blocks, uint32_t most, int keep)
{
	struct cursor list = {.block = blocks->block, .offset = blocks->offset, .limit = image->super.directory_table};
	struct piece *pieces = (struct piece *)blocks->records, piece;
	unsigned char sizes[4 * 64];
	uint32_t kept = 0, seen = 0;

	while (kept < most && seen < SCAN && blocks->done < blocks->total) {
		uint64_t left = blocks->total - blocks->done;
		uint32_t part = most - kept < 64 ? most - kept : 64;
		int64_t status;

		part = left < part ? left : part;
		status = meta_read(image, &list, sizes, part * 4);
		for (uint32_t i = 0; status == 0 && i < part; i++) {
			status = take_piece(image, blocks, le32(sizes + 4 * i), &piece);
			if (keep == SQUASH_KEEP_ALL || (keep == SQUASH_KEEP_STORED && piece.position >= 0))
				pieces[kept++] = piece;
			else
				kept += keep == SQUASH_KEEP_NONE;
		}
		if (status < 0)
			return status;
		seen += part;
	}
	blocks->block = list.block;
	blocks->offset = list.offset;
	return kept;
}

int64_t squash_pieces(squash_image *image, squash_blocks *blocks, uint32_t most, int keep)
{
	int64_t status;

	if (keep != SQUASH_KEEP_NONE && most > PIECES_MOST)
		most = PIECES_MOST;
	pthread_mutex_lock(&image->lock);
	status = take_pieces(image, blocks, most, keep);
	pthread_mutex_unlock(&image->lock);
	return status;
}
