/* Reading: what Python sees of read*.c. cffi parses this file as it is: no preprocessor lines but numbers.
 *
 * Functions that return int64_t give what they are asked for (a count, a length, 0), or less than zero:
 * -(code | reason << 8 | errno << 16), where code is one of libsquashfs, negated, and reason is for squash_reason().
 * Every function may be called from several threads at once, for the same image too.
 */

typedef struct squash_image squash_image;

typedef struct {
	uint32_t inode_count, modification_time, block_size, fragment_count;
	uint16_t compressor, block_log, flags, id_count, version_major, version_minor;
	uint64_t root_ref, bytes_used;
	uint64_t id_table, xattr_table, inode_table, directory_table, fragment_table, export_table;
} squash_super;

/* A directory's listing, fetched in batches. The caller owns it and looks only at the last two, at names_length, at how
 * many bytes of the image were taken for it so far, and whether a name was out of order. */
typedef struct {
	uint64_t block, inode_block, left, taken;
	uint32_t offset, run, base, last_length, unsorted;
	uint32_t names_length;
	unsigned char last[256];
	unsigned char records[15360]; /* 256 inodes */
	char names[16384];            /* with a zero byte between two */
} squash_listing;

/* A file's blocks, fetched in batches. The first four fields say where the next batch begins. */
typedef struct {
	uint64_t block, position, done;
	uint32_t offset;
	uint64_t total, size;
	uint32_t fragment_stored, fragment_start;
	int64_t fragment_position;    /* -1: none */
	unsigned char records[14336]; /* 512 pieces */
} squash_blocks;

const char *squash_reason(unsigned reason);

/* Opens what lies at [offset, offset + size) of a file; size UINT64_MAX is all that follows. Owns fd if it succeeds. */
int64_t squash_open(int fd, uint64_t offset, uint64_t size, squash_image **image);
void squash_close(squash_image *image);
const squash_super *squash_superblock(const squash_image *image);

/* Records of inodes are 60 bytes: "=QIIIIIIQIQII" of
 * ref, number, mode, uid, gid, mtime, nlink, size, rdev, sparse, xattr, parent. */
int64_t squash_inode(squash_image *image, uint64_t ref, void *record);
int64_t squash_by_number(squash_image *image, uint32_t number, void *record);
int64_t squash_readlink(squash_image *image, uint64_t ref, char *target, uint32_t room);

/* squash_list() gives the number of entries, 0 at the end: records of inodes, or else ("=QII") of ref, S_IFMT, number.
 * An inode that cannot be read has number 0, and of its mode the S_IFMT that the entry says. */
int64_t squash_list_start(squash_image *image, uint64_t ref, squash_listing *listing);
int64_t squash_list(squash_image *image, squash_listing *listing, int inodes);
int64_t squash_find(squash_image *image, uint64_t ref, const char *name, uint32_t length, void *record);
/* How many bytes the listings of all directories can have together. */
int64_t squash_listing_room(squash_image *image);

/* For who answers for an image without Python: `image` is a squash_image. What stat shows of an inode as a `struct stat`,
 * which is 0 but for what the image says: 1 if there are xattrs, else 0. The length of a symlink's target. Bytes of a file
 * that lies in one stored block: how many there were; a larger file is an error. */
int64_t squash_answer_stat(void *image, uint64_t ref, void *status);
int64_t squash_answer_link(void *image, uint64_t ref, char *target, uint32_t room);
int64_t squash_answer_read(void *image, uint64_t ref, uint64_t offset, void *data, uint32_t size);
/* How many bytes of uncompressed blocks are kept for that, of all images. */
int64_t squash_answers_hold(void);

#define SQUASH_KEEP_NONE 0
#define SQUASH_KEEP_ALL 1
#define SQUASH_KEEP_STORED 2 /* no holes */

/* Records of pieces are 28 bytes: "=QIqII" of offset, length, position, stored, start.
 * squash_pieces() gives how many it kept (or would have kept); it may give fewer than `most` before all are done. */
int64_t squash_blocks_start(squash_image *image, uint64_t ref, squash_blocks *blocks);
int64_t squash_pieces(squash_image *image, squash_blocks *blocks, uint32_t most, int keep);
int64_t squash_load(squash_image *image, uint64_t position, uint32_t stored, void *data, uint32_t length);

/* Pairs, each "=II" of two lengths, then the name and the value; the caller frees them with squash_free(). */
int64_t squash_xattrs(squash_image *image, uint32_t index, char **pairs);
void squash_free(void *memory);
