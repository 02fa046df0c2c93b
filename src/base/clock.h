/* clock.h - monotonic time. */
#ifndef SP_BASE_CLOCK_H
#define SP_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t sp_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* start + ns; INT64_MAX, which is never, where that is too far off. ns >= 0 */
static inline int64_t sp_later_ns(int64_t start, int64_t ns)
{
    return start > INT64_MAX - ns ? INT64_MAX : start + ns;
}

#endif
