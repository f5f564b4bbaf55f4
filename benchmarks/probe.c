/* The timing loops: one system call pattern each, timed per operation, so that Python is never what is measured.
 *
 *   probe OP DIR LIST OUT [NUMBER]     run OP on every NUL-separated name of LIST, relative to DIR
 *   probe mounts LIST OUT              start all commands at once, time each until it returns and until it answers
 *
 * One JSON object goes to stdout; OUT gets the time of each operation as a native uint32 [ns].
 * What a loop itself costs is the operation `nothing`. The digest is in probe_digest.c, the commands are in probe_commands.c.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint32_t *times;
static size_t taken, room;
uint64_t bytes, found;
char *block;
size_t block_size = 128 * 1024; /* the kernel's default read-ahead, and what cat and cp ask for */

static void record(uint64_t ns)
{
	if (taken < room)
		times[taken++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

/* ---- one operation on one name ---- */

static int op_nothing(const char *name)
{
	found += (uint64_t)(name != NULL);
	return 0;
}

static int op_stat(const char *name)
{
	struct stat st;
	if (fstatat(AT_FDCWD, name, &st, AT_SYMLINK_NOFOLLOW))
		return -1;
	found++;
	bytes += (uint64_t)st.st_size;
	return 0;
}

static int op_absent(const char *name)
{
	struct stat st;
	if (!fstatat(AT_FDCWD, name, &st, AT_SYMLINK_NOFOLLOW)) {
		errno = EEXIST;
		return -1;
	}
	found++;
	return errno == ENOENT ? 0 : -1;
}

static int op_open(const char *name)
{
	ssize_t got;
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while ((got = read(fd, block, block_size)) > 0)
		bytes += (uint64_t)got;
	found++;
	return got < 0 ? -1 : close(fd);
}

static int put(int fd, size_t size)
{
	if (fd < 0 || write(fd, block, size) != (ssize_t)size)
		return -1;
	found++;
	return close(fd);
}

static int op_create(const char *name)
{
	return put(open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), 4096);
}

static int op_append(const char *name)
{
	return put(open(name, O_WRONLY | O_APPEND | O_CLOEXEC), 1);
}

static int op_chmod(const char *name)
{
	found++;
	return chmod(name, 0640);
}

static int op_unlink(const char *name)
{
	found++;
	return unlink(name);
}

static int op_rename(const char *name)
{
	char to[4096];
	found++;
	snprintf(to, sizeof to, "%s~", name);
	return rename(name, to);
}

static int op_replace(const char *name)
{
	char from[4096];
	snprintf(from, sizeof from, "%s.new", name);
	if (op_create(from))
		return -1;
	return rename(from, name);
}

static int op_mkdir(const char *name)
{
	found++;
	return mkdir(name, 0755);
}

static int op_list(const char *name)
{
	struct dirent *entry;
	DIR *dir = opendir(name);
	if (!dir)
		return -1;
	while ((entry = readdir(dir)))
		found++;
	return closedir(dir);
}

static const struct {
	const char *name;
	int (*run)(const char *);
} ops[] = {
	{"nothing", op_nothing}, {"stat", op_stat},     {"absent", op_absent}, {"open", op_open},
	{"create", op_create},   {"append", op_append}, {"chmod", op_chmod},   {"unlink", op_unlink},
	{"rename", op_rename},   {"replace", op_replace}, {"mkdir", op_mkdir}, {"list", op_list},
};

/* ---- whole-tree and whole-file loops ---- */

/* As `find -printf %s`: every directory listed, every entry's size asked for. */
static void walk(int at, const char *name)
{
	struct dirent *entry;
	struct stat st;
	uint64_t start;
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		fail(name);
	for (start = now(); (entry = readdir(dir)); start = now()) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			fail(entry->d_name);
		record(now() - start);
		found++;
		bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
		if (S_ISDIR(st.st_mode))
			walk(dirfd(dir), entry->d_name);
	}
	closedir(dir);
}

static void sequential(const char *name)
{
	ssize_t got;
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(name);
	do {
		uint64_t start = now();
		got = read(fd, block, block_size);
		if (got > 0) {
			record(now() - start);
			bytes += (uint64_t)got;
		}
	} while (got > 0);
	if (got < 0)
		fail(name);
	close(fd);
}

/* A new file of NUMBER bytes; without fsync its last bytes may be on their way to the disk when close has returned. */
static void fill(const char *name, size_t size, int sync)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		fail(name);
	while (bytes < size) {
		size_t left = size - bytes;
		uint64_t start = now();
		ssize_t done = write(fd, block, left < block_size ? left : block_size);
		if (done <= 0)
			fail(name);
		record(now() - start);
		bytes += (uint64_t)done;
	}
	if ((sync && fsync(fd)) || close(fd))
		fail(name);
}

/* NUMBER reads of 4 KiB at places drawn by a fixed linear congruential generator. */
static void scattered(const char *name, size_t count)
{
	uint64_t seed = 88172645463325252u;
	struct stat st;
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		fail(name);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (size_t i = 0; i < count; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		off_t where = (off_t)((seed >> 20) % (uint64_t)(st.st_size / 4096)) * 4096;
		uint64_t start = now();
		ssize_t got = pread(fd, block, 4096, where);
		if (got < 0)
			fail(name);
		record(now() - start);
		bytes += (uint64_t)got;
	}
	close(fd);
}

/* ---- main ---- */

static char *slurp(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		fail(path);
	char *data = prefaulted((size_t)st.st_size);
	for (*size = 0; *size < (size_t)st.st_size;) {
		ssize_t got = read(fd, data + *size, (size_t)st.st_size - *size);
		if (got <= 0)
			fail(path);
		*size += (size_t)got;
	}
	close(fd);
	return data;
}

static void each(int (*run)(const char *), char *list, size_t size)
{
	for (char *name = list; name < list + size; name += strlen(name) + 1) {
		uint64_t start = now();
		if (run(name))
			fail(name);
		record(now() - start);
	}
}

static void save(const char *path)
{
	FILE *out = fopen(path, "wb");
	if (!out || fwrite(times, sizeof *times, taken, out) != taken || fclose(out))
		fail(path);
}

int main(int argc, char **argv)
{
	size_t size = 0, number = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
	uint64_t sum = 0;
	if (argc < 4) {
		fprintf(stderr, "usage: probe OP DIR LIST OUT [NUMBER] | probe mounts LIST OUT\n");
		return 2;
	}
	umask(022);
	if (!strcmp(argv[1], "mounts")) {
		char *list = slurp(argv[2], &size);
		return commands(list, size);
	}
	char *list = slurp(argv[3], &size);
	int out_dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	room = 1 << 21;
	times = prefaulted(room * sizeof *times);
	block = prefaulted(block_size);
	memset(block, 'x', block_size);
	if (chdir(argv[2]))
		fail(argv[2]);
	uint64_t start = now();
	if (!strcmp(argv[1], "walk"))
		walk(AT_FDCWD, ".");
	else if (!strcmp(argv[1], "digest"))
		sum = digest(AT_FDCWD, ".", ".", 0);
	else if (!strcmp(argv[1], "sequential"))
		sequential(list);
	else if (!strcmp(argv[1], "write") || !strcmp(argv[1], "write-sync"))
		fill(list, number, !strcmp(argv[1], "write-sync"));
	else if (!strcmp(argv[1], "scattered"))
		scattered(list, number);
	else {
		size_t i = 0, known = sizeof ops / sizeof *ops;
		while (i < known && strcmp(argv[1], ops[i].name))
			i++;
		if (i == known) {
			fprintf(stderr, "unknown operation %s\n", argv[1]);
			return 2;
		}
		each(ops[i].run, list, size);
	}
	uint64_t total = now() - start;
	if (fchdir(out_dir))
		fail("fchdir");
	if (argc > 4)
		save(argv[4]);
	printf("{\"total_ns\": %llu, \"count\": %llu, \"bytes\": %llu, \"digest\": \"%016llx\"}\n",
	       (unsigned long long)total, (unsigned long long)found, (unsigned long long)bytes, (unsigned long long)sum);
	return 0;
}
