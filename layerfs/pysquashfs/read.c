/* An image as a whole: its file, its superblock, opening and closing it. */
#include "read_image.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x73717368
#define BLOCK_LOG_LEAST 12
#define BLOCK_LOG_MOST 20

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
	return image->size < SUPER_SIZE ? failure(SFQS_ERROR_SUPER_MAGIC, WHY_SMALL, 0) : 0;
}

/* The superblock as it lies in the image: 96 bytes, little-endian. */
static void take_super(squash_super *super, const unsigned char *p)
{
	*super = (squash_super){
		.inode_count = le32(p + 4), .modification_time = le32(p + 8), .block_size = le32(p + 12),
		.fragment_count = le32(p + 16), .compressor = le16(p + 20), .block_log = le16(p + 22),
		.flags = le16(p + 24), .id_count = le16(p + 26), .version_major = le16(p + 28),
		.version_minor = le16(p + 30), .root_ref = le64(p + 32), .bytes_used = le64(p + 40),
		.id_table = le64(p + 48), .xattr_table = le64(p + 56), .inode_table = le64(p + 64),
		.directory_table = le64(p + 72), .fragment_table = le64(p + 80), .export_table = le64(p + 88),
	};
}

static int64_t check_super(const squash_super *super, uint64_t size)
{
	if (super->version_major != 4 || super->version_minor != 0)
		return failure(SFQS_ERROR_SUPER_VERSION, WHY_VERSION, 0);
	if (super->block_log < BLOCK_LOG_LEAST || super->block_log > BLOCK_LOG_MOST ||
	    super->block_size != 1u << super->block_log)
		return failure(SQFS_ERROR_SUPER_BLOCK_SIZE, WHY_BLOCK_SIZE, 0);
	if (super->compressor < SQFS_COMP_MIN || super->compressor > SQFS_COMP_MAX)
		return failure(SQFS_ERROR_UNSUPPORTED, WHY_COMPRESSOR, 0);
	if (super->bytes_used > size)
		return failure(SQFS_ERROR_OUT_OF_BOUNDS, WHY_ENDS, 0);
	if (super->inode_table < SUPER_SIZE || super->inode_table >= super->directory_table ||
	    super->directory_table > super->bytes_used || super->id_count == 0 || super->inode_count == 0)
		return corrupt(WHY_SUPER);
	return 0;
}

static uint64_t first_behind_directories(const squash_super *super)
{
	uint64_t starts[] = {super->fragment_table, super->export_table, super->id_table, super->xattr_table};
	uint64_t end = super->bytes_used;

	for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++)
		if (starts[i] > super->directory_table && starts[i] < end)
			end = starts[i];
	return end;
}

static int64_t read_super(squash_image *image)
{
	unsigned char raw[SUPER_SIZE];
	int64_t status = image_read(image, 0, raw, sizeof(raw));

	if (status < 0)
		return status;
	if (le32(raw) != MAGIC)
		return failure(SFQS_ERROR_SUPER_MAGIC, WHY_MAGIC, 0);
	take_super(&image->super, raw);
	status = check_super(&image->super, image->size);
	image->directory_end = first_behind_directories(&image->super);
	return status;
}

int64_t squash_open(int fd, uint64_t offset, uint64_t size, squash_image **result)
{
	squash_image *image = calloc(1, sizeof(*image));
	int64_t status;

	if (!image)
		return failure(SQFS_ERROR_ALLOC, WHY_MEMORY, 0);
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

void squash_close(squash_image *image)
{
	cache_forget(image);
	blocks_forget(image);
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
