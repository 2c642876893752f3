/* Preloaded into a broker: notes what its disk has, after each fsync and fdatasync that succeeds.

A line of the file $SYNCED is the size that a file had when it was synced, and its path. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int (*sync_function)(int);

static int noted(const char *name, int fd) {
    sync_function sync = (sync_function)dlsym(RTLD_NEXT, name);
    const char *journal = getenv("SYNCED");
    struct stat before;
    int known = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int result = sync(fd);
    if (result == 0 && known && journal != NULL) {
        char link[64], path[PATH_MAX + 1], line[PATH_MAX + 64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, PATH_MAX);
        int out = open(journal, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (length > 0 && out >= 0) {
            path[length] = 0;
            int size = snprintf(line, sizeof line, "%lld %s\n", (long long)before.st_size, path);
            if (write(out, line, size) != size)
                abort();
        }
        if (out >= 0)
            close(out);
    }
    return result;
}

int fsync(int fd) { return noted("fsync", fd); }

int fdatasync(int fd) { return noted("fdatasync", fd); }
