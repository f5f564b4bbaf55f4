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
