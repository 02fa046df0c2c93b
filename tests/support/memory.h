/* memory.h - for tests of internals: cmocka, and an allocator that counts. As a group's setup and
 * teardown, memory_set_up and memory_tear_down see to it that nothing is left. */
#ifndef SP_TEST_MEMORY_H
#define SP_TEST_MEMORY_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static sp_mem mem;
static sparoa_allocator alloc;

static inline int memory_set_up(void **state)
{
    (void)state;
    alloc = sp_mem_init(&mem, NULL, 0);
    return 0;
}

static inline int memory_tear_down(void **state)
{
    (void)state;
    return atomic_load(&mem.used) != 0;
}

/* Equal but for rounding. */
static inline void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-9 * fabs(b))) fail_msg("%.12g is not %.12g", a, b);
}

#endif
