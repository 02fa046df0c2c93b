/* Allocation: counting, the cap, growing lists, arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void test_counts(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_allocator a = sp_mem_init(&mem, NULL, 0);
    void *p = sp_alloc(&a, 100), *q = sp_alloc(&a, 0), *r = sp_calloc(&a, 10, 7);
    assert_true(p && q && r);
    assert_int_equal((uintptr_t)p % SP_ALIGN, 0);
    assert_int_equal((uintptr_t)r % SP_ALIGN, 0);
    for (int i = 0; i < 70; i++) assert_int_equal(((char *)r)[i], 0);
    assert_int_equal(atomic_load(&mem.used), 171);
    sp_free(&a, p, 100);
    sp_free(&a, q, 0);
    sp_free(&a, r, 70);
    sp_free(&a, NULL, 5);
    assert_int_equal(atomic_load(&mem.used), 0);
    assert_int_equal(atomic_load(&mem.peak), 171);
    assert_null(sp_alloc(&a, SIZE_MAX));
    assert_null(sp_calloc(&a, SIZE_MAX / 2, 3));
    assert_int_equal(atomic_load(&mem.used), 0);
}

static void test_cap(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_error err;
    sparoa_allocator a = sp_mem_init(&mem, NULL, 1000);
    void *p = sp_alloc(&a, 900);
    assert_non_null(p);
    assert_null(sp_alloc(&a, 101));
    assert_int_equal(sp_no_memory(&a, 101, &err), SPAROA_MEMORY_LIMIT);
    assert_int_equal(err.status, SPAROA_MEMORY_LIMIT);
    assert_non_null(strstr(err.message, "101 more bytes"));
    assert_non_null(strstr(err.message, "limit of 1000"));
    assert_int_equal(sp_no_memory(&a, 101, NULL), SPAROA_MEMORY_LIMIT);
    void *q = sp_alloc(&a, 100);
    assert_non_null(q);
    sp_free(&a, p, 900);
    sp_free(&a, q, 100);
    assert_int_equal(atomic_load(&mem.used), 0);
    assert_true(atomic_load(&mem.peak) <= 1000);
}

static void *refuse(void *user, size_t size, size_t align)
{
    (void)user;
    (void)size;
    (void)align;
    return NULL;
}

static void no_free(void *user, void *ptr, size_t size)
{
    (void)user;
    (void)size;
    assert_null(ptr);
}

static void test_no_memory(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_error err;
    sparoa_allocator base = {NULL, refuse, no_free}, a = sp_mem_init(&mem, &base, 1000);
    assert_null(sp_alloc(&a, 10));
    assert_int_equal(sp_no_memory(&a, 10, &err), SPAROA_OUT_OF_MEMORY);
    assert_int_equal(atomic_load(&mem.used), 0);
    sp_arena arena;
    sp_arena_init(&arena, &a);
    assert_null(sp_arena_alloc(&arena, 10));
    assert_null(sp_arena_strdup(&arena, "text"));
    assert_null(sp_arena_printf(&arena, "%d", 5));
    sp_arena_destroy(&arena);
    int *list = NULL;
    size_t capacity = 0;
    assert_false(sp_grow(&a, &list, &capacity, 5, sizeof *list));
    assert_int_equal(capacity, 0);
}

static void test_grow(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_allocator a = sp_mem_init(&mem, NULL, 0);
    int *list = NULL;
    size_t capacity = 0;
    for (size_t n = 1; n < 2000; n++) {
        assert_true(sp_grow(&a, &list, &capacity, n, sizeof *list));
        assert_true(capacity >= n);
        assert_int_equal(list[n - 1], 0);
        list[n - 1] = (int)n;
    }
    for (size_t n = 1; n < 2000; n++) assert_int_equal(list[n - 1], n);
    int *before = list;
    assert_false(sp_grow(&a, &list, &capacity, SIZE_MAX / 2, sizeof *list));
    assert_ptr_equal(list, before);
    sp_free(&a, list, capacity * sizeof *list);
    assert_int_equal(atomic_load(&mem.used), 0);
}

static void test_arena(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_allocator a = sp_mem_init(&mem, NULL, 0);
    sp_arena arena;
    sp_arena_init(&arena, &a);
    unsigned char *blocks[500];
    for (size_t i = 0; i < 500; i++) {
        size_t size = i * 37 % 9000;
        blocks[i] = sp_arena_alloc(&arena, size);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t k = 0; k < size; k++) assert_int_equal(blocks[i][k], 0);
        memset(blocks[i], (int)(i % 255) + 1, size);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t k = 0; k < i * 37 % 9000; k++) assert_int_equal(blocks[i][k], i % 255 + 1);
    assert_string_equal(sp_arena_strdup(&arena, "text"), "text");
    assert_string_equal(sp_arena_strndup(&arena, "text", 2), "te");
    assert_string_equal(sp_arena_printf(&arena, "%s-%d", "node", 7), "node-7");
    assert_null(sp_arena_alloc(&arena, SIZE_MAX - 8));
    sp_arena_destroy(&arena);
    sp_arena_destroy(&arena);
    assert_int_equal(atomic_load(&mem.used), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),    cmocka_unit_test(test_cap),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_grow),
        cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
