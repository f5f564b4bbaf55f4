/* Writing: the file that an image goes to. */
#include "write_image.h"

void sw_keep(sqfs_object_t *object)
{
	(void)object;
}

static int target_read(sqfs_file_t *file, sqfs_u64 offset, void *buffer, size_t size)
{
	struct target *t = (struct target *)file;
	uint8_t *at = buffer;

	while (size > 0) {
		ssize_t got = pread(t->fd, at, size, t->position + offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			t->error = got < 0 ? errno : EIO;
			return SQFS_ERROR_IO;
		}
		at += got;
		offset += got;
		size -= got;
	}
	return 0;
}

static int target_write(sqfs_file_t *file, sqfs_u64 offset, const void *buffer, size_t size)
{
	struct target *t = (struct target *)file;
	const uint8_t *at = buffer;

	while (size > 0) {
		ssize_t put = pwrite(t->fd, at, size, t->position + offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			t->error = put < 0 ? errno : EIO;
			return SQFS_ERROR_IO;
		}
		at += put;
		offset += put;
		size -= put;
	}
	if (offset > t->size)
		t->size = offset;
	return 0;
}

static sqfs_u64 target_size(const sqfs_file_t *file)
{
	return ((const struct target *)file)->size;
}

/* Only a number: what lies behind is overwritten, or cut off by sw_finish. */
static int target_truncate(sqfs_file_t *file, sqfs_u64 size)
{
	((struct target *)file)->size = size;
	return 0;
}

void sw_target_begin(struct target *t, int fd, uint64_t position)
{
	*t = (struct target){
		.base = {.base = {.destroy = sw_keep, .copy = NULL},
			 .read_at = target_read,
			 .write_at = target_write,
			 .get_size = target_size,
			 .truncate = target_truncate},
		.fd = fd,
		.position = position,
	};
}
