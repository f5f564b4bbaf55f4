/* An image as a whole: opening it, its bytes, its superblock, and data blocks. */
#include "read_image.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define IDLE_MOST 4 /* workers kept for the next block, each with a block's room; more threads make their own */
#define STORED_SIZE 0xffffff
#define STORED_PLAIN (1 << 24)

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

/* libsquashfs's own file object takes a path and knows no offset. */
static int file_read_at(sqfs_file_t *file, sqfs_u64 position, void *data, size_t length)
{
	int64_t status = image_read((const squash_image *)file, position, data, length);
	return status < 0 ? -(int)(-status & 0xff) : 0;
}

static sqfs_u64 file_get_size(const sqfs_file_t *file)
{
	return ((const squash_image *)file)->size;
}

static int file_refuses_write(sqfs_file_t *file, sqfs_u64 position, const void *data, size_t length)
{
	(void)file, (void)position, (void)data, (void)length;
	return SQFS_ERROR_UNSUPPORTED;
}

static int file_refuses_truncate(sqfs_file_t *file, sqfs_u64 size)
{
	(void)file, (void)size;
	return SQFS_ERROR_UNSUPPORTED;
}

static int64_t measure(squash_image *image, uint64_t size)
{
	struct stat status;
	uint64_t all = 0;

	if (fstat(image->fd, &status) < 0)
		return failure(SQFS_ERROR_IO, WHY_READ, errno);
	if (S_ISREG(status.st_mode))
		all = status.st_size;
	else if (!S_ISBLK(status.st_mode))
		return failure(SQFS_ERROR_ARG_INVALID, WHY_KIND, 0);
	else if (ioctl(image->fd, BLKGETSIZE64, &all) < 0)
		return failure(SQFS_ERROR_IO, WHY_READ, errno);
	image->size = image->offset > all ? 0 : all - image->offset;
	if (size != UINT64_MAX && size > image->size)
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_ENDS, 0);
	if (size < image->size)
		image->size = size;
	return image->size < sizeof(sqfs_super_t) ? failure(SFQS_ERROR_SUPER_MAGIC, WHY_SMALL, 0) : 0;
}

static enum reason why_super(int code)
{
	switch (code) {
	case SFQS_ERROR_SUPER_MAGIC: return WHY_MAGIC;
	case SFQS_ERROR_SUPER_VERSION: return WHY_VERSION;
	case SQFS_ERROR_SUPER_BLOCK_SIZE: return WHY_BLOCK_SIZE;
	case SQFS_ERROR_UNSUPPORTED: return WHY_COMPRESSOR;
	case SQFS_ERROR_IO: return WHY_READ;
	default: return WHY_SUPER;
	}
}

static uint64_t first_behind(const sqfs_super_t *super)
{
	uint64_t starts[] = {super->fragment_table_start, super->export_table_start, super->id_table_start,
			     super->xattr_id_table_start};
	uint64_t end = super->bytes_used;

	for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++)
		if (starts[i] > super->directory_table_start && starts[i] < end)
			end = starts[i];
	return end;
}

static int64_t read_super(squash_image *image)
{
	sqfs_super_t super;
	int code = sqfs_super_read(&super, &image->file);

	if (code)
		return failure(code, why_super(code), 0);
	if (super.bytes_used > image->size)
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_ENDS, 0);
	if (super.block_size < 4096 || super.block_size > 1 << 20 || super.block_size != 1u << super.block_log)
		return failure(SQFS_ERROR_SUPER_BLOCK_SIZE, WHY_BLOCK_SIZE, 0);
	if (super.inode_table_start < sizeof(super) || super.inode_table_start >= super.directory_table_start ||
	    super.directory_table_start > super.bytes_used || super.id_count == 0 || super.inode_count == 0)
		return corrupt(WHY_SUPER);
	image->directory_end = first_behind(&super);
	image->super = (squash_super){
		.inode_count = super.inode_count, .modification_time = super.modification_time,
		.block_size = super.block_size, .fragment_count = super.fragment_entry_count,
		.compressor = super.compression_id, .block_log = super.block_log, .flags = super.flags,
		.id_count = super.id_count, .version_major = super.version_major, .version_minor = super.version_minor,
		.root_ref = super.root_inode_ref, .bytes_used = super.bytes_used, .id_table = super.id_table_start,
		.xattr_table = super.xattr_id_table_start, .inode_table = super.inode_table_start,
		.directory_table = super.directory_table_start, .fragment_table = super.fragment_table_start,
		.export_table = super.export_table_start,
	};
	return 0;
}

int64_t squash_open(int fd, uint64_t offset, uint64_t size, squash_image **result)
{
	squash_image *image = calloc(1, sizeof(*image));
	int64_t status;

	if (!image)
		return failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
	image->file.read_at = file_read_at;
	image->file.write_at = file_refuses_write;
	image->file.get_size = file_get_size;
	image->file.truncate = file_refuses_truncate;
	image->fd = fd;
	image->offset = offset;
	status = measure(image, size);
	if (status == 0)
		status = read_super(image);
	if (status == 0) /* now, so that a compressor that is missing is said when the image is opened */
		status = image_compressor(image, &image->compressor);
	if (status < 0) {
		free(image);
		return status;
	}
	pthread_mutex_init(&image->lock, NULL);
	pthread_mutex_init(&image->pool, NULL);
	*result = image;
	return 0;
}

static void worker_free(struct worker *worker)
{
	sqfs_destroy(worker->compressor);
	free(worker->stored);
	free(worker);
}

void squash_close(squash_image *image)
{
	struct worker *worker;

	while ((worker = image->workers)) {
		image->workers = worker->next;
		worker_free(worker);
	}
	meta_forget(image);
	sqfs_destroy(image->compressor);
	free(image->ids);
	pthread_mutex_destroy(&image->lock);
	pthread_mutex_destroy(&image->pool);
	close(image->fd);
	free(image);
}

const squash_super *squash_superblock(const squash_image *image)
{
	return &image->super;
}

void squash_free(void *memory)
{
	free(memory);
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

static int64_t worker_take(squash_image *image, struct worker **result)
{
	struct worker *worker;
	int64_t status;

	pthread_mutex_lock(&image->pool);
	worker = image->workers;
	if (worker) {
		image->workers = worker->next;
		image->idle--;
	}
	pthread_mutex_unlock(&image->pool);
	if (!worker) {
		worker = calloc(1, sizeof(*worker));
		if (!worker)
			return failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
		worker->stored = malloc(image->super.block_size);
		status = worker->stored ? image_compressor(image, &worker->compressor)
					: failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
		if (status < 0) {
			worker_free(worker);
			return status;
		}
	}
	*result = worker;
	return 0;
}

static void worker_give_back(squash_image *image, struct worker *worker)
{
	pthread_mutex_lock(&image->pool);
	if (image->idle < IDLE_MOST) {
		worker->next = image->workers;
		image->workers = worker;
		image->idle++;
		worker = NULL;
	}
	pthread_mutex_unlock(&image->pool);
	if (worker)
		worker_free(worker);
}

int64_t squash_load(squash_image *image, uint64_t position, uint32_t stored, void *data, uint32_t length)
{
	uint32_t size = stored & STORED_SIZE;
	struct worker *worker;
	int64_t status;

	if (stored & ~(STORED_SIZE | STORED_PLAIN) || size == 0 || size > image->super.block_size)
		return corrupt(WHY_BLOCK_STORED);
	if (!image_holds(image, position, size))
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_BLOCK_PLACE, 0);
	if (stored & STORED_PLAIN) {
		if (size > length)
			return corrupt(WHY_BLOCK_STORED);
		status = image_read(image, position, data, size);
		return status < 0 ? status : size;
	}
	status = worker_take(image, &worker);
	if (status < 0)
		return status;
	status = image_read(image, position, worker->stored, size);
	if (status == 0) {
		/* 0 is what most of libsquashfs's decompressors say of a block that would be longer than `length`. */
		status = worker->compressor->do_block(worker->compressor, worker->stored, size, data, length);
		if (status <= 0 || status > length)
			status = failure(SQFS_ERROR_COMPRESSOR, WHY_BLOCK_DATA, 0);
	}
	worker_give_back(image, worker);
	return status;
}
