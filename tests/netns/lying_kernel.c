/* System calls of a device that lie or fail once the file named by FAULT says which: preloaded by
 * test_engine_failures.py.
 *
 *     read      the TUN gives a length that is longer than the buffer
 *     epoll     a thread's wait for descriptors fails
 *     boottime  the host has slept for an hour since it booted, more than before
 *     ipv6      the host has no IPv6 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SLEPT 3600

static int is_wanted(const char *fault) {
    char text[16] = {0};
    const char *path = getenv("FAULT");
    int file = path ? syscall(SYS_open, path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    int wanted = syscall(SYS_read, file, text, sizeof text - 1) > 0 && strcmp(text, fault) == 0;
    syscall(SYS_close, file);
    return wanted;
}

/* The engine's threads have names of their own; Python's, wgpy-device, goes on undisturbed. */
static int is_thread_of_the_engine(void) {
    char name[16] = {0};
    int file = syscall(SYS_open, "/proc/thread-self/comm", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    int length = syscall(SYS_read, file, name, sizeof name - 1);
    syscall(SYS_close, file);
    return length > 0 && (strcmp(name, "wgpy-send\n") == 0 || strcmp(name, "wgpy-receive\n") == 0);
}

static int is_tun(int fd) {
    char link[40], target[16] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, target, sizeof target - 1) > 0 && strcmp(target, "/dev/net/tun") == 0;
}

ssize_t read(int fd, void *buffer, size_t size) {
    ssize_t result = syscall(SYS_read, fd, buffer, size);
    if (result > 0 && is_tun(fd) && is_thread_of_the_engine() && is_wanted("read"))
        return 1 << 20;
    return result;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    int result = syscall(SYS_epoll_pwait, epoll, events, most, timeout, NULL, 8);
    if (result > 0 && is_thread_of_the_engine() && is_wanted("epoll")) {
        errno = EBADF;
        return -1;
    }
    return result;
}

int socket(int family, int type, int protocol) {
    if (family == AF_INET6 && is_wanted("ipv6")) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return syscall(SYS_socket, family, type, protocol);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_BOOTTIME && result == 0 && is_wanted("boottime"))
        now->tv_sec += SLEPT;
    return result;
}

/* What is to be waited for is told by that clock, too. */
int timerfd_settime(int fd, int flags, const struct itimerspec *wanted, struct itimerspec *before) {
    struct itimerspec true_time = *wanted;
    if (flags & TFD_TIMER_ABSTIME && true_time.it_value.tv_sec > SLEPT && is_wanted("boottime"))
        true_time.it_value.tv_sec -= SLEPT;
    return syscall(SYS_timerfd_settime, fd, flags, &true_time, before);
}
