/* Which instruction set's kernels are used: the best that the machine has, unless SPAROA_ISA names
 * another one. On 64-bit Arm that is NEON, and sessions run its kernels. */
#include "backends/cpu/kernel.h"
#include "tests/support/support.h"

/* The best one first; the last is always there. */
#if defined(__aarch64__)
static const char *const order[] = {"neon", "generic"};
static const char *const foreign[] = {"avx2", "avx512"};
#elif defined(__x86_64__)
static const char *const order[] = {"avx512", "avx2", "generic"};
static const char *const foreign[] = {"neon"};
#else
static const char *const order[] = {"generic"};
static const char *const foreign[] = {"neon", "avx2", "avx512"};
#endif
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Products and convolutions of a session are done by kernels of this instruction set. */
static void expect_used(const char *isa)
{
    sparoa_error err;
    sparoa_device_desc cpu;
    sparoa_tensor out = {0}, in = ts_random(MB_DIMS(1, 3, 8, 8), 1);
    sparoa_runtime *rt = ts_runtime(NULL, 1);
    assert_int_equal(sparoa_device(rt, 0, &cpu), SPAROA_OK);
    assert_string_equal(cpu.isa, isa);
    sparoa_model *model = ts_load(rt, ts_small_net());
    sparoa_session *s = ts_session(model, NULL, 0);
    ts_ok(sparoa_session_run(s, &in, 1, &out, 1, &err), err);
    int of_isa = 0;
    for (size_t i = 0; i < sparoa_session_node_count(s); i++) {
        sparoa_node_info n;
        assert_int_equal(sparoa_session_node(s, i, &n), SPAROA_OK);
        bool heavy = !strcmp(n.op_class, "conv") || !strcmp(n.op_class, "gemm");
        const char *suffix = strstr(n.kernel, "__");
        if (heavy && (!suffix || strcmp(suffix + 2, isa) != 0))
            fail_msg("%s runs %s, not a kernel of %s", n.name, n.kernel, isa);
        of_isa += heavy;
    }
    assert_int_equal(of_isa, 3);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    free(in.data);
    mb_end();
}

static void the_best_is_used(void **state)
{
    (void)state;
    const sp_kernels *best = NULL;
    for (size_t i = 0; !best && i < COUNT(order); i++) best = sp_cpu_kernels(order[i]);
    assert_non_null(best);
#if defined(__aarch64__) /* every such processor has it */
    assert_string_equal(best->isa, "neon");
#endif
    assert_ptr_equal(sp_cpu_kernels(NULL), best);
    unsetenv("SPAROA_ISA");
    expect_used(best->isa);
}

static void another_one_is_used_if_asked_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(order); i++) {
        const sp_kernels *k = sp_cpu_kernels(order[i]);
        if (!k) continue; /* an older processor */
        assert_string_equal(k->isa, order[i]);
        setenv("SPAROA_ISA", order[i], 1);
        expect_used(order[i]);
    }
    for (size_t i = 0; i < COUNT(foreign); i++) {
        sparoa_runtime *rt = NULL;
        sparoa_error err;
        assert_null(sp_cpu_kernels(foreign[i]));
        setenv("SPAROA_ISA", foreign[i], 1);
        assert_int_equal(sparoa_runtime_create(NULL, &rt, &err), SPAROA_DEVICE_UNAVAILABLE);
    }
    unsetenv("SPAROA_ISA");
}

/* What is compiled for one instruction set is not another one's code under its name. */
static void each_has_kernels_of_its_own(void **state)
{
    (void)state;
    const sp_kernels *plain = sp_cpu_kernels("generic");
    for (size_t i = 0; i + 1 < COUNT(order); i++) {
        const sp_kernels *k = sp_cpu_kernels(order[i]);
        if (!k) continue;
        assert_true(k->gemm_f32 != plain->gemm_f32 && k->dwconv_f32 != plain->dwconv_f32);
        assert_true(k->gemm_q8 != plain->gemm_q8 && k->spmm_f32 != plain->spmm_f32);
        assert_true(k->winograd_in_f32 != plain->winograd_in_f32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_is_used),
        cmocka_unit_test(another_one_is_used_if_asked_for),
        cmocka_unit_test(each_has_kernels_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
