/* Gives advice from wherever it can be given, and ends with an error as soon as something is not what it should be. */
#define _GNU_SOURCE
#include <dormouse.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static char *memory;
static int expected; /* What advice returns here. */

#define CHECK(what)                                             \
    if (!(what)) {                                              \
        fprintf(stderr, "line %d: %s\n", __LINE__, #what);      \
        _exit(1);                                               \
    }

static void *in_thread(void *unused)
{
    CHECK(dormouse_advise(memory, 2 * PAGE) == expected);
    return unused;
}

static void in_handler(int number)
{
    (void)number;
    CHECK(dormouse_advise(memory, PAGE) == expected);
}

static void in_child(void)
{
    int fd, status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (fd = 0; fd < 64; fd++)
            close(fd);
        _exit(dormouse_advise(memory, 3 * PAGE) == expected ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
    struct dormouse_range ranges[3];
    struct dormouse_stats stats;
    pthread_t thread;
    size_t told = 7;
    int heard = strcmp(dormouse_status(), "merging") == 0;

    expected = heard ? 0 : ENOTCONN;
    memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    printf("%zu %d\n%s\n", (size_t)memory, 3 * PAGE, dormouse_status());

    errno = 77;
    CHECK(dormouse_advise(memory, 3 * PAGE + 5) == expected);
    CHECK(dormouse_unadvise(memory - 5, PAGE + 10) == expected);
    CHECK(dormouse_advise(memory + 1, PAGE) == 0); /* No whole page. */
    CHECK(dormouse_advise((void *)(size_t)-PAGE, PAGE) == EINVAL);
    CHECK(errno == 77);

    ranges[0].addr = memory, ranges[0].len = 2 * PAGE;
    ranges[1].addr = memory, ranges[1].len = 100;
    ranges[2].addr = memory, ranges[2].len = PAGE;
    CHECK(dormouse_advise_ranges(ranges, 3, &told) == expected);
    CHECK(told == (heard ? 3 * PAGE : 0));

    CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    in_child();
    signal(SIGUSR1, in_handler);
    raise(SIGUSR1);

    CHECK(dormouse_stats(NULL) == EINVAL);
    CHECK(dormouse_stats(&stats) == 0);
    printf("%zu %zu %zu %zu %zu %zu %zu\ndone\n", (size_t)stats.messages, (size_t)stats.ranges, (size_t)stats.bytes,
           (size_t)stats.refused, (size_t)stats.lost, (size_t)stats.unheard, (size_t)stats.listening);
    return 0;
}
