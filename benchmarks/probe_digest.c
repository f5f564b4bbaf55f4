/* What a tree holds, as one number, independent of the order of listing. */
#define _GNU_SOURCE
#include "probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
	const unsigned char *at = data;
	for (; size >= 8; size -= 8, at += 8) {
		uint64_t word;
		memcpy(&word, at, 8);
		hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
		hash ^= hash >> 29;
	}
	for (; size; size--, at++)
		hash = (hash ^ *at) * 0x100000001B3u;
	return hash ^ hash >> 32;
}

static uint64_t content(int at, const char *name, const struct stat *st, uint64_t hash)
{
	if (S_ISLNK(st->st_mode)) {
		ssize_t size = readlinkat(at, name, block, block_size);
		return size < 0 ? (fail(name), 0) : mix(hash, block, (size_t)size);
	}
	if (S_ISREG(st->st_mode)) {
		ssize_t got;
		int fd = openat(at, name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			fail(name);
		while ((got = read(fd, block, block_size)) > 0) {
			hash = mix(hash, block, (size_t)got);
			bytes += (uint64_t)got;
		}
		if (got < 0)
			fail(name);
		close(fd);
	}
	return hash;
}

/* Names, kinds, modes, owners, sizes and times of files, symlink targets, bytes. Not: sizes and times of directories. */
uint64_t digest(int at, const char *name, const char *path, uint64_t sum)
{
	struct dirent *entry;
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		fail(path);
	while ((entry = readdir(dir))) {
		char below[8192];
		struct stat st;
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			fail(below);
		uint64_t of_file = S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size;
		uint64_t when = S_ISREG(st.st_mode) ? (uint64_t)st.st_mtim.tv_sec : 0;
		uint64_t words[] = {st.st_mode, st.st_uid, st.st_gid, of_file, when};
		uint64_t hash = mix(mix(1469598103934665603u, below, strlen(below)), words, sizeof words);
		sum += content(dirfd(dir), entry->d_name, &st, hash);
		found++;
		if (S_ISDIR(st.st_mode))
			sum = digest(dirfd(dir), entry->d_name, below, sum);
	}
	closedir(dir);
	return sum;
}
