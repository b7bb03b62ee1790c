/* Stands between a program and libc where it changes files below one folder, and kills it there.
 *
 * Loaded by LD_PRELOAD; what it shall do stands in a file that whoever tests maps too (KILLS_CONTROL,
 * laid out as in tests/kills/steps.py). Each call that changes something below the folder is a step.
 * It has a name, "CALL KIND", and a number. At the step that is asked for it kills the process, before
 * the call or in the middle of a write, or lets the call fail. It also shifts the wall clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, TEAR, FAIL, FAIL_ON };
#define TRACED 8192
#define NAME 32

struct control {
    int32_t mode, error;
    int64_t target, count;
    double shift;         /* seconds that the wall clock is ahead */
    int32_t pid, struck;  /* the only process that is meant; how often it was struck */
    char root[512];
    char match[NAME]; /* "": every step is counted, else those of this name */
    char at[NAME];    /* the step that was struck */
    char trace[TRACED][NAME];
};

static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("KILLS_CONTROL");
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (file < 0) return;
    void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) control = at;
    syscall(SYS_close, file);
}

static int starts(const char *text, const char *with) { return !strncmp(text, with, strlen(with)); }

static int ends(const char *text, const char *with) {
    size_t length = strlen(text), tail = strlen(with);
    return length >= tail && !strcmp(text + length - tail, with);
}

/* What a path below the root is; NULL for one that is not below it. */
static const char *kind_of(const char *path) {
    size_t length = strlen(control->root);
    if (strncmp(path, control->root, length) || (path[length] && path[length] != '/')) return NULL;
    const char *name = path + length + (path[length] == '/');
    if (!*name) return "root";
    if (starts(name, "blobs")) {
        int depth = 0;
        for (const char *at = name; *at; at++) depth += *at == '/';
        return depth >= 2 ? "blob" : "blobs";
    }
    if (starts(name, "ingest/")) {
        name += 7;
        if (starts(name, "put-")) return "put";
        if (starts(name, "upload-")) return "upload";
        if (starts(name, "draft-")) return "draft";
        if (starts(name, "index.json")) return "listing";
        if (ends(name, ".ranges")) return "journal";
        if (ends(name, ".data")) return "data";
        return "ingest";
    }
    if (starts(name, "index.json")) return "listing";
    if (starts(name, "cache.db-wal")) return "wal";
    if (starts(name, "cache.db-shm")) return "shm";
    if (starts(name, "cache.db")) return "db";
    if (starts(name, "quarantine")) return "quarantine";
    if (starts(name, "uploads")) return "session";
    if (starts(name, "ingest")) return "ingest";
    if (starts(name, "lock")) return "lock";
    return "other";
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) syscall(SYS_pause);
}

/* Count a step; whether it is struck now. */
static int step(const char *call, const char *kind) {
    char name[NAME];
    if (control->mode == OFF || control->pid != getpid()) return 0;
    snprintf(name, sizeof name, "%s %s", call, kind);
    if (*control->match && strcmp(control->match, name)) return 0;
    int64_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (control->mode == COUNT && number <= TRACED) memcpy(control->trace[number - 1], name, NAME);
    int now = control->mode == FAIL_ON ? number >= control->target : number == control->target;
    if (control->mode == COUNT || !now) return 0;
    if (!__atomic_fetch_add(&control->struck, 1, __ATOMIC_SEQ_CST)) memcpy(control->at, name, NAME);
    if (control->mode == KILL) die();
    return 1;
}

static const char *kind_at(int folder, const char *path) {
    char whole[PATH_MAX], place[PATH_MAX], link[64];
    if (!control || control->mode == OFF || !path) return NULL;
    if (*path == '/') return kind_of(path);
    if (folder == AT_FDCWD) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, place, sizeof place - 1);
    if (length <= 0) return NULL;
    place[length] = 0;
    if (snprintf(whole, sizeof whole, "%s/%s", place, path) >= (int)sizeof whole) return NULL;
    return kind_of(whole);
}

static const char *kind_fd(int file) {
    char path[PATH_MAX], link[64];
    if (!control || control->mode == OFF) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return NULL;
    path[length] = 0;
    return kind_of(path);
}

/* A call on a path or file: struck by a failure it gives -1, else it is made. */
#define STRIKE(call, kind)                                                  \
    do {                                                                    \
        const char *is = (kind);                                            \
        if (is && step(call, is)) {                                         \
            if (control->mode == TEAR) die();                               \
            errno = control->error;                                         \
            return -1;                                                      \
        }                                                                   \
    } while (0)

/* A write: torn in the middle, it has written half. */
#define WRITE(call, file, half)                                             \
    do {                                                                    \
        const char *is = kind_fd(file);                                     \
        if (is && step(call, is)) {                                         \
            if (control->mode == TEAR) { half; die(); }                     \
            errno = control->error;                                         \
            return -1;                                                      \
        }                                                                   \
    } while (0)

/* libc's own, looked up once. */
#define REAL(name)                                                          \
    ({                                                                      \
        static __typeof__(&name) real;                                      \
        if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);       \
        real;                                                               \
    })

#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...) {                            \
        va_list more;                                                       \
        va_start(more, flags);                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                       \
        if (flags & (O_CREAT | O_TRUNC)) STRIKE("open", kind_at(AT_FDCWD, path)); \
        return REAL(name)(path, flags, mode);                               \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                        \
    int name(int folder, const char *path, int flags, ...) {                \
        va_list more;                                                       \
        va_start(more, flags);                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                       \
        if (flags & (O_CREAT | O_TRUNC)) STRIKE("open", kind_at(folder, path)); \
        return REAL(name)(folder, path, flags, mode);                       \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *from, size_t count) {
    WRITE("write", file, REAL(write)(file, from, count / 2));
    return REAL(write)(file, from, count);
}

#define PWRITE(name)                                                        \
    ssize_t name(int file, const void *from, size_t count, off_t at) {      \
        WRITE("pwrite", file, REAL(name)(file, from, count / 2, at));       \
        return REAL(name)(file, from, count, at);                           \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

static void half(int file, const struct iovec *parts, off_t at) {
    REAL(pwrite)(file, parts[0].iov_base, parts[0].iov_len / 2, at);
}

#define PWRITEV(name)                                                       \
    ssize_t name(int file, const struct iovec *parts, int count, off_t at) { \
        WRITE("pwrite", file, half(file, parts, at));                       \
        return REAL(name)(file, parts, count, at);                          \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define PWRITEV2(name)                                                      \
    ssize_t name(int file, const struct iovec *parts, int count, off_t at, int flags) { \
        WRITE("pwrite", file, half(file, parts, at));                       \
        return REAL(name)(file, parts, count, at, flags);                   \
    }
PWRITEV2(pwritev2)
PWRITEV2(pwritev64v2)

#define ON_FILE(name, as)                                                   \
    int name(int file) {                                                    \
        STRIKE(as, kind_fd(file));                                          \
        return REAL(name)(file);                                            \
    }
ON_FILE(fsync, "fsync")
ON_FILE(fdatasync, "fsync")

#define CUT(name)                                                           \
    int name(int file, off_t length) {                                      \
        STRIKE("truncate", kind_fd(file));                                  \
        return REAL(name)(file, length);                                    \
    }
CUT(ftruncate)
CUT(ftruncate64)

int fchmod(int file, mode_t mode) {
    STRIKE("chmod", kind_fd(file));
    return REAL(fchmod)(file, mode);
}

int chmod(const char *path, mode_t mode) {
    STRIKE("chmod", kind_at(AT_FDCWD, path));
    return REAL(chmod)(path, mode);
}

int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    STRIKE("chmod", kind_at(folder, path));
    return REAL(fchmodat)(folder, path, mode, flags);
}

int rename(const char *from, const char *to) {
    STRIKE("rename", kind_at(AT_FDCWD, to));
    return REAL(rename)(from, to);
}

int renameat(int at, const char *from, int there, const char *to) {
    STRIKE("rename", kind_at(there, to));
    return REAL(renameat)(at, from, there, to);
}

int link(const char *from, const char *to) {
    STRIKE("link", kind_at(AT_FDCWD, to));
    return REAL(link)(from, to);
}

int linkat(int at, const char *from, int there, const char *to, int flags) {
    STRIKE("link", kind_at(there, to));
    return REAL(linkat)(at, from, there, to, flags);
}

int unlink(const char *path) {
    STRIKE("unlink", kind_at(AT_FDCWD, path));
    return REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags) {
    STRIKE("unlink", kind_at(folder, path));
    return REAL(unlinkat)(folder, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    STRIKE("mkdir", kind_at(AT_FDCWD, path));
    return REAL(mkdir)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    STRIKE("mkdir", kind_at(folder, path));
    return REAL(mkdirat)(folder, path, mode);
}

/* The wall clock, as far ahead (or behind) as is asked for. */

static void shift(struct timespec *now) {
    if (!control || control->shift == 0.0) return;
    now->tv_sec += (time_t)control->shift;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = REAL(clock_gettime)(which, now);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) shift(now);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (into) *into = exact.tv_sec;
    return exact.tv_sec;
}
