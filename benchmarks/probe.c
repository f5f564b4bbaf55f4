/* The timing loops: one system call pattern each, timed per operation, so that Python is never what is measured.
 *
 *   probe OP DIR LIST OUT [NUMBER]     run OP on every NUL-separated name of LIST, relative to DIR
 *   probe mounts LIST OUT              start all commands at once, time each until it returns and until it answers
 *
 * One JSON object goes to stdout; OUT gets the time of each operation as a native uint32 [ns].
 * What a loop itself costs is the operation `nothing`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint32_t *times;
static size_t taken, room;
static uint64_t bytes, found;
static char *block;
static size_t block_size = 128 * 1024; /* the kernel's default read-ahead, and what cat and cp ask for */

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static void *prefaulted(size_t size)
{
	void *memory = mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	return memory;
}

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
	{"rename", op_rename},   {"mkdir", op_mkdir},   {"list", op_list},
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

/* ---- digest: what the tree holds, independent of the order of listing ---- */

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
static uint64_t digest(int at, const char *name, const char *path, uint64_t sum)
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

/* ---- many commands at once: LIST holds, for each, argc, the target that must answer (or ""), then argv ---- */

struct outcome {
	uint64_t returned, answered;
	int status;
};

/* Lists the whole directory; fuse-overlayfs shows no dots, so only other names count. */
static int answers(const char *target)
{
	struct dirent *entry;
	int entries = 0;
	DIR *dir = opendir(target);
	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		entries += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return entries > 0;
}

static void supervise(char **argv, const char *target, int gate, struct outcome *out)
{
	char go;
	int status = -1;
	if (read(gate, &go, 1) < 0) /* returns at the closing of the other end: everyone starts together */
		_exit(1);
	uint64_t start = now();
	pid_t child = vfork();
	if (child == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	waitpid(child, &status, 0);
	out->returned = now() - start;
	out->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
	if (out->status == 0 && *target)
		while (!answers(target) && now() - start < 20000000000u)
			usleep(200);
	out->answered = now() - start;
	_exit(0);
}

static int commands(char *list, size_t size)
{
	int gate[2], count = 0;
	char *at = list, *end = list + size;
	struct outcome *outcomes = prefaulted(4096 * sizeof *outcomes);
	if (pipe2(gate, O_CLOEXEC))
		fail("pipe");
	while (at < end) {
		char *argv[512], *target;
		int argc = atoi(at);
		at += strlen(at) + 1;
		target = at;
		at += strlen(at) + 1;
		for (int i = 0; i < argc; i++, at += strlen(at) + 1)
			argv[i < 510 ? i : 510] = at;
		argv[argc < 511 ? argc : 511] = NULL;
		pid_t child = fork();
		if (child == 0) {
			close(gate[1]);
			supervise(argv, target, gate[0], &outcomes[count]);
		}
		count++;
	}
	usleep(20000); /* all of them wait at the gate */
	uint64_t start = now();
	close(gate[1]);
	while (wait(NULL) > 0)
		;
	uint64_t total = now() - start;
	printf("{\"total_ns\": %llu, \"commands\": [", (unsigned long long)total);
	for (int i = 0; i < count; i++)
		printf("%s[%llu, %llu, %d]", i ? ", " : "", (unsigned long long)outcomes[i].returned,
		       (unsigned long long)outcomes[i].answered, outcomes[i].status);
	printf("]}\n");
	return 0;
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
