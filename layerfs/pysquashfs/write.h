/* The writing half of the extension: what Python may call. cffi reads this file as it is: no preprocessor but numbers. */

typedef struct sw_writer sw_writer;

/* Beside libsquashfs's SQFS_ERROR values (-1 and below). errno of the failed call: sw_errno. */
#define SW_SOURCE -100  /* reading the file that is to be stored failed */
#define SW_CHANGED -101 /* that file became shorter while it was read */

#define SW_COMPRESS_INODES 1
#define SW_COMPRESS_XATTRS 2
#define SW_COMPRESS_DATA 4
#define SW_FRAGMENTS 8
#define SW_DEDUPLICATE 16
#define SW_EXPORT 32
#define SW_LZ4_HC 64

#define SW_NO_XATTRS 0xFFFFFFFF

/* Begin an image at a position of a regular file. level < 0: the compressor's own default. */
int sw_create(int fd, uint64_t position, int compressor, int level, uint32_t block_size, uint32_t threads,
	      uint32_t flags, sw_writer **out);
/* Wait for the threads and free everything; what was written stays. NULL is allowed. */
void sw_destroy(sw_writer *w);
int sw_errno(const sw_writer *w);

/* First the content of files, one after the other. sw_file_end returns the content's index. */
int sw_file_begin(sw_writer *w);
int sw_append(sw_writer *w, const void *data, size_t size);
int sw_zeros(sw_writer *w, uint64_t count);
/* Append [position, end) of a file, holes as holes, but stop after about `budget` bytes: returns how far it came. */
int64_t sw_copy(sw_writer *w, int fd, uint64_t position, uint64_t end, uint64_t budget);
int64_t sw_file_end(sw_writer *w);
/* Wait for the last block; afterwards no more content. */
int sw_content_end(sw_writer *w);
/* From any thread: blocks are neither compressed nor written any more, so that whoever waits for them returns soon. */
void sw_give_up(sw_writer *w);

/* Then inodes, children before parents. References are 48 bit. */
int sw_xattr_begin(sw_writer *w);
int sw_xattr_add(sw_writer *w, const char *name, const void *value, size_t size);
int64_t sw_xattr_end(sw_writer *w);
int sw_directory_begin(sw_writer *w);
int sw_directory_entry(sw_writer *w, const char *name, uint32_t number, uint64_t reference, uint32_t mode);
/* The listing is complete: returns the directory's index. */
int64_t sw_directory_end(sw_writer *w, uint32_t parent);
/* Write an inode and return its reference. what: index of content or directory, or device number as on disk;
   target: of a symlink. */
int64_t sw_inode(sw_writer *w, uint32_t number, uint32_t mode, uint32_t uid, uint32_t gid, uint32_t mtime,
		 uint32_t links, uint32_t xattrs, uint64_t what, const char *target, size_t target_size);

/* Tables, superblock and padding. Returns the image's length [bytes]. */
int64_t sw_finish(sw_writer *w, uint32_t inodes, uint64_t root, uint32_t mtime, uint32_t padding);
