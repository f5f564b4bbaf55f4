/* What all of the reader stands on: the image's bytes, its compressor, and what went wrong in words. */
#include "read_image.h"

#include <errno.h>
#include <unistd.h>

#define AS_TEXT(name, text) text,
static const char *const reasons[] = {REASONS(AS_TEXT)};

const char *squash_reason(unsigned reason)
{
	return reason < sizeof(reasons) / sizeof(*reasons) ? reasons[reason] : reasons[WHY_NOTHING];
}

bool image_holds(const squash_image *image, uint64_t position, uint64_t length)
{
	return position <= image->super.bytes_used && length <= image->super.bytes_used - position;
}

int64_t image_read(const squash_image *image, uint64_t position, void *data, size_t length)
{
	if (position > image->size || length > image->size - position)
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_ENDS, 0);
	while (length > 0) {
		ssize_t got = pread(image->fd, data, length, image->offset + position);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return failure(SQFS_ERROR_IO, WHY_READ, errno);
		if (got == 0) /* somebody truncated it */
			return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_ENDS, 0);
		data = (char *)data + got;
		position += got;
		length -= got;
	}
	return 0;
}

int64_t image_compressor(const squash_image *image, sqfs_compressor_t **compressor)
{
	sqfs_compressor_config_t config;
	int code = sqfs_compressor_config_init(&config, image->super.compressor, image->super.block_size,
					       SQFS_COMP_FLAG_UNCOMPRESS);

	if (code == 0)
		code = sqfs_compressor_create(&config, compressor);
	if (code == 0)
		return 0;
	return failure(code, code == SQFS_ERROR_ALLOC ? WHY_MEMORY : WHY_COMPRESSOR, 0);
}
