/*
 * Tells the agent that merges equal pages (dormouse) which memory of this program is worth it: weights of a model, tables,
 * whatever other sandboxes of the same function have, too. Link with -ldormouse, or load it at run time.
 *
 * Everything here returns at once: a message is sent, nobody waits for what becomes of it. It may be called from any
 * thread, after fork, and in signal handlers. Where nobody merges, it does nothing. Merging never changes what memory holds.
 *
 * The agent is the one that the variable DORMOUSE_MERGE_SOCKET named when the library was loaded. dormouse sets it for
 * functions with merge = "advised".
 *
 * Preloaded (LD_PRELOAD=libdormouse.so) it also turns madvise(MADV_MERGEABLE) and madvise(MADV_UNMERGEABLE) of unchanged
 * programs into advice; where no agent listens these reach the kernel as before, as all other advice always does.
 */
#ifndef DORMOUSE_H
#define DORMOUSE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The pages that lie in these bytes as a whole may be merged. Returns 0 if the agent was told, or if they hold no whole page;
 * else an error number, as posix_madvise(3) does; errno stays as it is:
 *   ENOTCONN  nobody listens: nothing happened
 *   EAGAIN    the agent has no room for more now, or this process none for a socket: nothing happened
 *   EINVAL    this is no memory
 */
int dormouse_advise(const void *addr, size_t len);

/* These are to be left alone from now on: what was merged stays so until it is written to. Returns the same. */
int dormouse_unadvise(const void *addr, size_t len);

struct dormouse_range {
    const void *addr;
    size_t len;
};

/*
 * The same for many ranges, 64 to a message. Writes to `told`, unless it is NULL, how many bytes the agent was told of. If
 * some ranges went wrong, the others were sent all the same.
 */
int dormouse_advise_ranges(const struct dormouse_range *ranges, size_t count, size_t *told);
int dormouse_unadvise_ranges(const struct dormouse_range *ranges, size_t count, size_t *told);

/* What this process has told the agent so far; a forked child counts on from there. */
struct dormouse_stats {
    uint64_t messages;  /* sent */
    uint64_t ranges;    /* sent */
    uint64_t bytes;     /* sent, those of both kinds of advice */
    uint64_t refused;   /* ranges that are no memory */
    uint64_t lost;      /* ranges for which there was no room */
    uint64_t unheard;   /* ranges that nobody listened to */
    uint64_t listening; /* 1: an agent listens now */
};

/* Returns 0, or EINVAL for NULL. */
int dormouse_stats(struct dormouse_stats *stats);

/*
 * Whether advice leads to anything now: "merging"; "no agent", nobody listens where one should; "off", this program was not
 * given an agent.
 */
const char *dormouse_status(void);

#ifdef __cplusplus
}
#endif

#endif
