/* The programs `layerfs` and `layerfs-mount`: have a mount made by a process that stands by, else become Python.
 *
 * A process stands by for ten minutes after a mount (standby.py, which has the other half of this), with all imported
 * that a mount needs. It is asked only by who is like it in every respect that a child inherits (`identity`), and it is
 * given all that differs from call to call: words, environment, working directory, standard streams, umask. If there is
 * none, or it declines, nothing has happened yet, and the Python program beside this one does the same by itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PYTHON_PROGRAM "layerfs-start" /* what pip makes of the entry point in pyproject.toml */
#define MOUNT_PROGRAM "layerfs-mount"
#define MOST (1 << 16) /* bytes of an identity; what has more (a user of many thousand groups) starts by itself */
#define PATIENCE 10 /* s until who stands by has begun: one that was stopped makes nobody wait for ever; guessed */
#define BEGUN 'A'
#define ENDED 'S'

extern char **environ;

static char identity[MOST];
static size_t length;

static void add(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(identity + length, MOST - length, format, arguments);
    va_end(arguments);
    length = written < 0 || length + written >= MOST ? MOST : length + written;
}

static void add_link(const char *name)
{
    char path[64], target[PATH_MAX];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    ssize_t size = readlink(path, target, sizeof target - 1);
    target[size < 0 ? 0 : size] = 0;
    add("%s %s\n", name, target);
}

/* Read a file of /proc whole. Returns what is to be freed. */
static char *contents(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    char *text = calloc(1, MOST);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t have = 0;
    ssize_t got = 0;
    while (text && fd >= 0 && have < MOST - 1 && (got = read(fd, text + have, MOST - 1 - have)) > 0)
        have += got;
    if (text && got < 0) /* attr/current without a security module */
        text[0] = 0;
    if (fd >= 0)
        close(fd);
    return text;
}

static void add_file(const char *name)
{
    char *text = contents(name);
    add("%s %s\n", name, text ? text : "");
    free(text);
}

static void add_status(void)
{
    static const char *const wanted[] = {"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
                                         "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed"};
    char *text = contents("status");
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        size_t name = strcspn(line, ":");
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strlen(wanted[i]) == name && !strncmp(line, wanted[i], name))
                add("%s\n", line);
    }
    free(text);
}

/* What a process is told as it starts, and never again. */
static void add_environment(void)
{
    static const char *const prefixes[] = {"PYTHON", "LD_", "GLIBC_", "MALLOC_", "LANG", "LC_", "TZ"};
    for (char *const *entry = environ; *entry; entry++)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            if (!strncmp(*entry, prefixes[i], strlen(prefixes[i])))
                add("%s\n", *entry);
}

/* All that a child inherits and cannot be given, and what would be started. `peer.py` writes the same. */
static void identify(const char *program)
{
    static const char *const links[] = {"ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid", "ns/pid_for_children",
                                        "ns/time", "ns/time_for_children", "ns/user", "ns/uts", "root"};
    static const char *const files[] = {"cgroup", "limits", "oom_score_adj", "loginuid", "attr/current"};
    struct stat st = {0};
    stat("/", &st);
    add("/ %ju %ju\n", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        add_link(links[i]);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        add_file(files[i]);
    add_status();
    add("%d %d\n", getpriority(PRIO_PROCESS, 0), sched_getscheduler(0));
    add_environment();
    memset(&st, 0, sizeof st);
    stat(program, &st);
    add("%s %ju %ju\n", program, (uintmax_t)st.st_ino, (uintmax_t)st.st_mtime);
}

static uint64_t hash(void) /* FNV-1a: tells identities apart; the other end compares them whole */
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)identity[i]) * 0x100000001b3u;
    return sum;
}

/* Say what a descriptor has open, as far as that is known here: a filesystem with a server is not asked. */
static int look(int fd, struct statx *found)
{
    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, found);
}

/* Open a directory if it is ours alone, and in the filesystem of the one above: what a stranger has mounted at its name
 * may never answer. */
static int open_ours(const char *path)
{
    struct statx above, here;
    const char *name = strrchr(path, '/') + 1;
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%.*s", (int)(name - path), path);
    int at = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = at < 0 ? -1 : openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int ours = fd >= 0 && !look(at, &above) && !look(fd, &here) && above.stx_dev_major == here.stx_dev_major &&
               above.stx_dev_minor == here.stx_dev_minor && here.stx_uid == geteuid() && !(here.stx_mode & 077);
    if (at >= 0)
        close(at);
    if (fd >= 0 && !ours) {
        close(fd);
        return -1;
    }
    return fd;
}

static unsigned long outside_id(unsigned long uid)
{
    unsigned long inside, outside, count, found = uid;
    FILE *map = fopen("/proc/self/uid_map", "re");
    while (map && fscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3)
        if (inside <= uid && uid - inside < count)
            found = outside + uid - inside;
    if (map)
        fclose(map);
    return found;
}

/* The runtime directory, where sys/private.py looks for it. */
static int open_runtime(void)
{
    char path[PATH_MAX];
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int fd = geteuid() == 0 ? open_ours("/run/layerfs") : -1;
    if (fd < 0 && runtime && *runtime == '/' && snprintf(path, sizeof path, "%s/layerfs", runtime) < PATH_MAX)
        fd = open_ours(path);
    if (fd < 0) {
        snprintf(path, sizeof path, "/tmp/layerfs-%lu", outside_id(geteuid()));
        fd = open_ours(path);
    }
    return fd;
}

/* Wait so many seconds for the other end, and for ever with 0. */
static void set_patience(int fd, time_t seconds)
{
    struct timeval patience = {.tv_sec = seconds};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

/* Connect to who stands by for us, and see that it is of our own user. */
static int reach(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    int directory = open_runtime();
    if (directory < 0)
        return -1;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%016jx.standby", directory,
             (uintmax_t)hash());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_patience(fd, PATIENCE);
    int failed = fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address);
    close(directory);
    if (fd >= 0 && (failed || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) || peer.uid != geteuid())) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Put NUL-terminated words one after another; count their bytes where there is no buffer. */
static size_t join(char *buffer, char *const *words)
{
    size_t total = 0;
    for (; *words; words++) {
        size_t size = strlen(*words) + 1;
        if (buffer)
            memcpy(buffer + total, *words, size);
        total += size;
    }
    return total;
}

static int send_all(int fd, struct msghdr *message, const char *rest, size_t left)
{
    if (sendmsg(fd, message, MSG_NOSIGNAL) != (ssize_t)message->msg_iov->iov_len)
        return -1;
    while (left) {
        ssize_t sent = send(fd, rest, left, MSG_NOSIGNAL);
        if (sent < 0)
            return -1;
        rest += sent;
        left -= sent;
    }
    return 0;
}

/* Send the request: numbers and descriptors first, then words and environment. */
static int request(int fd, char *const *words)
{
    struct sigaction hangup = {0};
    sigaction(SIGHUP, NULL, &hangup);
    mode_t mask = umask(0);
    umask(mask);
    uint32_t head[4] = {mask, hangup.sa_handler == SIG_IGN, join(NULL, words), join(NULL, environ)};
    size_t size = (size_t)head[2] + head[3];
    int given[4] = {0, 1, 2, open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof given)];
    } control = {0};
    struct iovec first = {head, sizeof head};
    struct msghdr message = {
        .msg_iov = &first, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    char *rest = malloc(size + 1);
    if (given[3] < 0 || !rest)
        return -1;
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof given)};
    memcpy(CMSG_DATA(&control.header), given, sizeof given);
    join(rest, words);
    join(rest + head[2], environ);
    int failed = send_all(fd, &message, rest, size);
    free(rest);
    close(given[3]);
    return failed;
}

/* Return the exit status; -1 if the mount is still to be made. */
static int ask(const char *program, char *const *words)
{
    unsigned char said[2];
    ssize_t got = 0;
    identify(program);
    int fd = length < MOST ? reach() : -1;
    if (fd < 0)
        return -1;
    set_patience(fd, PATIENCE);
    if (request(fd, words)) {
        close(fd);
        return -1;
    }
    int begun = 0;
    while ((got = recv(fd, said, 1, 0)) == 1 && said[0] == BEGUN) {
        begun = 1;
        set_patience(fd, 0);
    }
    int status = got == 1 && said[0] == ENDED && recv(fd, said + 1, 1, 0) == 1 ? said[1] : -1;
    close(fd);
    if (status < 0 && begun) {
        fputs("layerfs: the process that mounts ended as it started (hint: try again)\n", stderr);
        return 1;
    }
    return status;
}

/* Tell whether somebody else can do what is asked for: nothing of it is about this very process. */
static int can_be_left_to_another(char *const *words)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            return 0;
    if (strcmp(words[0], MOUNT_PROGRAM) && (!words[1] || strcmp(words[1], "mount")))
        return 0;
    for (char *const *word = words + 1; *word; word++)
        if (strstr(*word, "/proc/") || strstr(*word, "/dev/fd") || strstr(*word, "/dev/std"))
            return 0;
    const char *standby = getenv("LAYERFS_STANDBY");
    return !standby || strcmp(standby, "no");
}

/* Write where this program lies, without symlinks. */
static int find_self(char path[PATH_MAX])
{
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (size > 0) {
        path[size] = 0;
        return 0;
    }
    return realpath((const char *)getauxval(AT_EXECFN), path) ? 0 : -1; /* /proc is not mounted */
}

int main(int argc, char **argv)
{
    char path[PATH_MAX], program[PATH_MAX + sizeof PYTHON_PROGRAM];
    char **words = calloc(argc + 3, sizeof *words);
    if (!words || find_self(path)) {
        fprintf(stderr, "layerfs: where this program lies cannot be found: %s\n", strerror(errno));
        return 1;
    }
    char *name = strrchr(path, '/') + 1;
    snprintf(program, sizeof program, "%.*s" PYTHON_PROGRAM, (int)(name - path), path);
    words[0] = program;
    words[1] = name;
    for (int i = 1; i < argc; i++)
        words[i + 1] = argv[i];
    int status = can_be_left_to_another(words + 1) ? ask(program, words + 1) : -1;
    if (status >= 0)
        return status;
    execv(program, words);
    fprintf(stderr, "layerfs: %s cannot be started: %s (hint: install layerfs anew)\n", program, strerror(errno));
    return 1;
}
