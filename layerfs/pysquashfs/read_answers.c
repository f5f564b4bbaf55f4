/* Answers for who serves an image without Python: as lowers/file.py has them. */
#include "read_image.h"

#include <string.h>
#include <sys/stat.h>

#define SECTOR 512

/* fs/squashfs/inode.c: what is sparse takes no room, only files take any; writers have counted too much. */
static uint64_t sectors(const struct record *record)
{
	if (!S_ISREG(record->mode) || record->sparse >= record->size)
		return 0;
	return (record->size - record->sparse + SECTOR - 1) / SECTOR;
}

int64_t squash_answer_stat(void *image, uint64_t ref, void *status)
{
	struct stat *st = status;
	struct record record;
	int64_t found = squash_inode(image, ref, &record);

	if (found < 0)
		return found;
	st->st_ino = record.number;
	st->st_mode = record.mode;
	st->st_nlink = record.nlink;
	st->st_uid = record.uid;
	st->st_gid = record.gid;
	st->st_rdev = record.rdev;
	st->st_size = record.size;
	st->st_blocks = sectors(&record);
	st->st_atim.tv_sec = st->st_mtim.tv_sec = st->st_ctim.tv_sec = record.mtime;
	return record.xattr != UINT32_MAX;
}

int64_t squash_answer_link(void *image, uint64_t ref, char *target, uint32_t room)
{
	return squash_readlink(image, ref, target, room);
}

/* Tell whether a file has a block of its own, which is stored as it is. */
static bool is_plain(const struct piece *piece)
{
	return piece->stored == (piece->length | STORED_PLAIN) && piece->start == 0;
}

/* Where a small file lies: in a block of its own, or in one that it shares. */
static int64_t only_piece(squash_image *image, uint64_t ref, struct piece *piece, uint64_t *size)
{
	squash_blocks blocks;
	int64_t status = squash_blocks_start(image, ref, &blocks);

	if (status < 0)
		return status;
	*size = blocks.size;
	if (blocks.size > image->super.block_size)
		return failure(SQFS_ERROR_UNSUPPORTED, WHY_FILE_SIZE, 0);
	*piece = (struct piece){
		.length = blocks.size, .position = blocks.fragment_position, .stored = blocks.fragment_stored,
		.start = blocks.fragment_start,
	};
	if (!blocks.total)
		return 0;
	status = squash_pieces(image, &blocks, 1, SQUASH_KEEP_ALL);
	if (status == 1)
		memcpy(piece, blocks.records, sizeof(*piece));
	return status < 0 ? status : 0;
}

int64_t squash_answer_read(void *image, uint64_t ref, uint64_t offset, void *data, uint32_t size)
{
	squash_image *self = image;
	struct piece piece;
	uint64_t all = 0;
	int64_t status = only_piece(self, ref, &piece, &all);

	if (status < 0 || offset >= all)
		return status;
	if (size > all - offset)
		size = all - offset;
	if (piece.position < 0)
		memset(data, 0, size);
	else if (is_plain(&piece))
		status = image_read(self, piece.position + offset, data, size);
	else
		status = cache_read(self, &piece, offset, data, size);
	return status < 0 ? status : size;
}
