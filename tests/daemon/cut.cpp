// LD_PRELOAD: a power cut, or a failing medium, at the n-th change of anything below one folder.
//   CUT_FOLDER  the folder; its file `lock` does not count
//   CUT_AT      n, from 1; 0: never
//   CUT_HOW     fail  the call fails (EIO, of a write ENOSPC), and the program goes on
//               kill  the program ends before it
//               tear  of a write half is done, then the program ends
//               lose  the power goes: what was not synced is gone as well. Files are cut to half, names are as they
//                     were when their folder was last synced
//   CUT_COUNT   a file that gets the number of changes, when the program comes to its end
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

template <class F>
F real(const char* name) {
    return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}
using Open = int (*)(const char*, int, ...);
using Write = ssize_t (*)(int, const void*, size_t);
using Fsync = int (*)(int);
using Rename = int (*)(const char*, const char*);
using Unlink = int (*)(const char*);

constexpr int room = 64, path_bytes = 512;
struct State {
    char folder[path_bytes];
    int at, count, report;
    char how;
    char unsynced[room][path_bytes];  // files with data that is not on the medium
    int files;
    struct {
        char name[path_bytes], before[path_bytes];  // before: what the name meant, "" nothing
    } names[room];                                  // changed since the folder was synced
    int changes;
} s;

[[gnu::constructor]] void begin() {
    const char* const folder = getenv("CUT_FOLDER");
    if (folder == nullptr) return;
    snprintf(s.folder, sizeof s.folder, "%s/", folder);
    s.at = atoi(getenv("CUT_AT"));
    s.how = getenv("CUT_HOW")[0];
    s.report = real<Open>("open")(getenv("CUT_COUNT"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}
[[gnu::destructor]] void end() {
    if (s.folder[0] == 0) return;
    for (int i = 0; i < s.changes; i++) real<Unlink>("unlink")(s.names[i].before);
    dprintf(s.report, "%d\n", s.count);
}

bool ours(const char* path) {
    return s.folder[0] != 0 && strncmp(path, s.folder, strlen(s.folder)) == 0 &&
           strcmp(path + strlen(s.folder), "lock") != 0;
}
// The path of a descriptor; a folder's has a slash behind it.
bool ours(int fd, char (&path)[path_bytes]) {
    if (s.folder[0] == 0) return false;
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path - 2);
    if (n <= 0) return false;
    path[n] = 0;
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) strcat(path, "/");
    return ours(path);
}

void lose() {
    for (int i = s.changes - 1; i >= 0; i--) {
        real<Unlink>("unlink")(s.names[i].name);
        if (s.names[i].before[0] != 0) real<Rename>("rename")(s.names[i].before, s.names[i].name);
    }
    for (int i = 0; i < s.files; i++) {
        struct stat st;
        if (stat(s.unsynced[i], &st) == 0) (void)!truncate(s.unsynced[i], st.st_size / 2);
    }
}

// Counts a change. True: it is the one that fails.
bool cut() {
    if (++s.count != s.at) return false;
    if (s.how == 'f') return true;
    if (s.how == 'l') lose();
    kill(getpid(), SIGKILL);
    return true;
}

void changes_name(const char* name) {
    auto& c = s.names[s.changes++];
    snprintf(c.name, sizeof c.name, "%s", name);
    snprintf(c.before, sizeof c.before, "%s~%d", name, s.changes);
    if (link(name, c.before) != 0) c.before[0] = 0;
}
void synced(const char* path) {
    for (int i = 0; i < s.files; i++)
        if (strcmp(s.unsynced[i], path) == 0) memmove(s.unsynced[i], s.unsynced[--s.files], path_bytes);
    if (path[strlen(path) - 1] != '/') return;
    for (int i = 0; i < s.changes; i++) real<Unlink>("unlink")(s.names[i].before);
    s.changes = 0;
}
void written(const char* path) {
    synced(path);
    snprintf(s.unsynced[s.files++], path_bytes, "%s", path);
}

}  // namespace

extern "C" {
int open(const char* path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    if ((flags & O_CREAT) != 0 && ours(path)) {
        if (cut()) return errno = EIO, -1;
        changes_name(path);
    }
    return real<Open>("open")(path, flags, mode);
}
ssize_t write(int fd, const void* bytes, size_t size) {
    char path[path_bytes];
    if (ours(fd, path)) {
        written(path);
        if (s.how == 't' && s.count + 1 == s.at) (void)!real<Write>("write")(fd, bytes, size / 2);
        if (cut()) return errno = ENOSPC, -1;
    }
    return real<Write>("write")(fd, bytes, size);
}
int fsync(int fd) {
    char path[path_bytes];
    if (ours(fd, path)) {
        if (cut()) return errno = EIO, -1;
        synced(path);
    }
    return real<Fsync>("fsync")(fd);
}
int rename(const char* from, const char* to) noexcept {
    if (ours(to)) {
        if (cut()) return errno = EIO, -1;
        changes_name(to);
        changes_name(from);
    }
    return real<Rename>("rename")(from, to);
}
int unlink(const char* path) noexcept {
    if (ours(path)) {
        if (cut()) return errno = EIO, -1;
        changes_name(path);
    }
    return real<Unlink>("unlink")(path);
}
}
