/* Platform files: the shipped ones, round trips, every kind of damage; prices by hand. */
#include "base/rng.h"
#include "platform/platform.h"
#include "tests/support/memory.h"

static sp_platform platform;

static const char *const shipped[] = {SPAROA_SOURCE_DIR "/platforms/jetson_agx_orin_64gb.yaml",
                                      SPAROA_SOURCE_DIR "/platforms/jetson_orin_nano_8gb.yaml"};

static void load(const char *path)
{
    sparoa_error err = {0};
    if (sp_platform_load(&alloc, path, &platform, &err)) fail_msg("%s", err.message);
}

/* What is written is read back as the same platform. */
static void write_and_read(void)
{
    sp_text first, second;
    sparoa_error err = {0};
    sp_text_init(&first, &alloc);
    sp_text_init(&second, &alloc);
    sp_platform_write(&platform, &first);
    if (sp_platform_parse(&alloc, "again", first.data, first.size, &platform, &err))
        fail_msg("%s\n%s", err.message, first.data);
    sp_platform_write(&platform, &second);
    assert_string_equal(first.data, second.data);
    sp_text_free(&first);
    sp_text_free(&second);
}

static void round_trip(void **state)
{
    for (int i = 0; i < 2; i++) {
        load(shipped[i]);
        write_and_read();
    }
}

static const char *const minimal =
    "format: sparoa-platform\nversion: 1\nname: m\nidle_watts: 2\ndispatch_watts: 1\n"
    "memory: {shared_gbs: 100, knee: 0.5, contention: 0.4, pj_per_byte: 10}\n"
    "devices:\n"
    "  - name: cpu\n    kind: cpu\n    peak_gflops: 100\n    bandwidth_gbs: 10\n    active_watts: "
    "5\n"
    "    kinds:\n      default: {efficiency: 0.5, bandwidth: 1, eager_us: 20, graph_us: 5}\n"
    "      conv: {efficiency: [[1e6, 0.1], [1e8, 0.5]], sparse_weights: [[0.5, 1], [0.9, 5]]}\n"
    "  - {name: gpu, kind: gpu, peak_gflops: 1000, bandwidth_gbs: 50, kinds: {default: {eager_us: "
    "50}}}\n"
    "links:\n"
    "  - {from: cpu, to: gpu, eager_us: 30, graph_us: 10, bandwidth_gbs: 5}\n"
    "  - {from: gpu, to: cpu, eager_us: 30, graph_us: 10, bandwidth_gbs: 5, mapped_us: 20, "
    "mapped_gbs: 10}\n"
    "modes:\n  - {name: half, clocks: [0.5, 1], memory_clock: 0.5}\n";

static sparoa_status parse(const char *text, sparoa_error *err)
{
    *err = (sparoa_error){0};
    return sp_platform_parse(&alloc, "m.yaml", text, strlen(text), &platform, err);
}

static void prices_by_hand(void **state)
{
    sparoa_error err;
    if (parse(minimal, &err)) fail_msg("%s", err.message);
    sp_work w = {.kind = SPAROA_CLASS_CONV,
                 .cost = {.flops = 1e8, .bytes_in = 1e5, .bytes_w = 1e5, .bytes_out = 1e5}};
    sp_price p = sp_platform_cost(&platform, 0, SP_REGIME_EAGER, &w, NULL);
    assert_near(p.compute_ns, 2e6); /* 1e8 / (100e9 * 0.5) */
    assert_near(p.memory_ns, 3e4);
    assert_near(p.ns, 2e6 + 2e4);
    assert_near(p.joules, 2e-3 * 5 + 2e-5 * 1 + 3e5 * 10e-12);
    w.cost.flops = 1e7; /* half way between the points, by log */
    assert_near(sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, NULL).ns,
                1e7 / (100 * 0.3) + 5e3);
    w.weight_zeros = 0.95;
    p = sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, NULL);
    assert_true(p.sparse);
    assert_near(p.compute_ns, 1e7 / 30 / 5);
    assert_near(p.bytes, 2.1e5);
    w.weight_zeros = 0.4;
    assert_false(sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, NULL).sparse);
    const sp_platform_mode *half = sp_platform_find_mode(&platform, "half");
    assert_non_null(half);
    assert_near(sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, &half->state).ns,
                2e7 / 30 + 1e4);
    assert_near(sp_platform_copy(&platform, 0, 1, SP_REGIME_EAGER, 5e3, NULL).ns, 3.1e4);
    sp_copy_price c = sp_platform_copy(&platform, 1, 0, SP_REGIME_GRAPH, 1e6, NULL);
    assert_true(c.mapped);
    assert_near(c.ns, 2e4 + 1e5);
    assert_true(sp_platform_contention(&platform, 40e9, NULL) == 1);
    assert_near(sp_platform_contention(&platform, 75e9, NULL), 1.2);
    assert_near(sp_platform_contention(&platform, 200e9, NULL), 2.8);
}

/* What goes with clocks: idle power, and part of the memory's time; a mode's own idle power is what
 * it takes at its clocks. */
static void clocks(void **state)
{
    static const char text[] =
        "format: sparoa-platform\nversion: 1\nname: m\nidle_watts: 10\ndevices:\n"
        "  - {name: cpu, kind: cpu, peak_gflops: 100, bandwidth_gbs: 100, active_watts: 8, "
        "clock_power: 3,\n     idle_clock_watts: 2, memory_by_clock: 0.25, clock_steps: [0.5, 1], "
        "kinds: {default: {}}}\n"
        "modes:\n  - {name: low, clocks: [0.5]}\n  - {name: given, clocks: [0.5], idle_watts: 6}\n"
        "  - {name: memory, clocks: [0.5], units: [0.5], memory_clock: 0.5}\n";
    sparoa_error err;
    if (sp_platform_parse(&alloc, "c", text, sizeof text - 1, &platform, &err))
        fail_msg("%s", err.message);
    const sp_platform_state full = sp_platform_nominal(&platform),
                            *low = &sp_platform_find_mode(&platform, "low")->state,
                            *given = &sp_platform_find_mode(&platform, "given")->state,
                            *memory = &sp_platform_find_mode(&platform, "memory")->state;
    assert_near(sp_platform_idle_watts(&platform, &full), 10);
    assert_near(sp_platform_idle_watts(&platform, low), 9);
    assert_near(sp_platform_idle_watts(&platform, given), 6);
    assert_near(sp_platform_idle_watts(&platform, memory), 8.5);
    const sp_work w = {.kind = SPAROA_CLASS_ELTWISE, .cost = {.flops = 1, .bytes_in = 1e6}};
    double ns = sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, &full).memory_ns;
    sp_price p = sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, low);
    assert_near(p.memory_ns, ns * (0.75 + 0.25 / 0.5));
    assert_near(p.joules, p.memory_ns * 1e-9 * 8 * 0.125);
    assert_near(sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, memory).memory_ns,
                ns * (0.75 / 0.5 + 0.25 / 0.25));
    write_and_read();
    assert_near(sp_platform_find_mode(&platform, "given")->state.idle_watts, 7);
}

/* The minimal file with one part replaced: status, and what the message must contain. */
static void names_line_and_field(void **state)
{
    static const struct {
        const char *from, *to, *message;
        sparoa_status status;
    } cases[] = {
        {"version: 1", "version: 2", "m.yaml:2: version", SPAROA_UNSUPPORTED_VERSION},
        {"format: sparoa-platform", "format: other", "m.yaml:1: format", SPAROA_MALFORMED},
        {"name: m\n", "", "'name' is missing", SPAROA_MALFORMED},
        {"idle_watts: 2", "idle_watts: -2", "m.yaml:4: idle_watts: -2 is not within",
         SPAROA_MALFORMED},
        {"idle_watts: 2", "idle_watts: nan", "idle_watts: expected a number", SPAROA_MALFORMED},
        {"idle_watts: 2", "idle_watts: 1e999", "idle_watts: expected a number", SPAROA_MALFORMED},
        {"idle_watts: 2", "idle_watts: [2]", "idle_watts: expected a number", SPAROA_MALFORMED},
        {"idle_watts: 2", "idle_wats: 2", "idle_wats: unknown field", SPAROA_MALFORMED},
        {"idle_watts: 2", "name: n", "'name' is given twice", SPAROA_MALFORMED},
        {"peak_gflops: 1000", "peak_gflops: 0", "m.yaml:16: devices[1].peak_gflops",
         SPAROA_MALFORMED},
        {"kind: gpu", "kind: tpu", "devices[1].kind", SPAROA_MALFORMED},
        {"kind: cpu", "kind: gpu", "first device must be the cpu", SPAROA_MALFORMED},
        {"name: gpu", "name: cpu", "second device", SPAROA_MALFORMED},
        {"conv:", "cnov:", "'cnov' is no kind", SPAROA_MALFORMED},
        {"[1e8, 0.5]", "[1e5, 0.5]", "devices[0].kinds.conv.efficiency[1]: x must grow",
         SPAROA_MALFORMED},
        {"[1e8, 0.5]", "[1e8]", "expected a pair", SPAROA_MALFORMED},
        {"from: gpu", "from: npu", "links[1].from", SPAROA_MALFORMED},
        {"from: gpu, to: cpu", "from: cpu, to: gpu", "no link from gpu to cpu", SPAROA_MALFORMED},
        {"clocks: [0.5, 1]", "clocks: [0.5]", "one number for each device", SPAROA_MALFORMED},
        {"peak_gflops: 1000", "peak_gflops: 1000, clock_steps: [0.5, 0.4]",
         "m.yaml:16: devices[1].clock_steps[1]: clocks must grow", SPAROA_MALFORMED},
        {"peak_gflops: 1000", "peak_gflops: 1000, clock_steps: [1.5]",
         "devices[1].clock_steps[0]: 1.5 is not within", SPAROA_MALFORMED},
        {"peak_gflops: 1000",
         "peak_gflops: 1000, clock_steps: [.1,.2,.3,.4,.5,.6,.7,.8,.81,.82,.83,.84,.85,.86,.87,.88,"
         ".89]",
         "devices[1].clock_steps: at most 16 clocks", SPAROA_MALFORMED},
        {"peak_gflops: 1000", "peak_gflops: 1000, memory_by_clock: 2",
         "devices[1].memory_by_clock: 2 is not within", SPAROA_MALFORMED},
        {"peak_gflops: 1000", "peak_gflops: 1000, idle_clock_watts: -1",
         "devices[1].idle_clock_watts: -1 is not within", SPAROA_MALFORMED},
        {"name: m\n", "name: &a m\n", "anchors", SPAROA_MALFORMED},
        {"name: m\n", "name: *a\n", "aliases", SPAROA_MALFORMED},
        {"name: m\n", "name: !!str m\n", "tags", SPAROA_MALFORMED},
        {"name: m\n", "name: [[[[[[[[[[[[[1]]]]]]]]]]]]]\n", "nested too deeply", SPAROA_MALFORMED},
        {"name: m\n", "? [a]\n: m\n", "a key is not a text", SPAROA_MALFORMED},
        {"name: m\n", "name: {\n", "not YAML", SPAROA_MALFORMED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096];
        const char *at = strstr(minimal, cases[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - minimal), minimal, cases[i].to,
                 at + strlen(cases[i].from));
        sparoa_error err;
        sparoa_status status = parse(text, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].message))
            fail_msg("case %zu: %d '%s', expected '%s'", i, status, err.message, cases[i].message);
    }
    sparoa_error err;
    assert_int_equal(parse("", &err), SPAROA_MALFORMED);
    assert_int_equal(parse("--- a\n--- b\n", &err), SPAROA_MALFORMED);
    assert_int_equal(sp_platform_load(&alloc, "/nowhere/x.yaml", &platform, &err),
                     SPAROA_NOT_FOUND);
}

static void survives_damage(void **state)
{
    size_t size = strlen(minimal);
    char *text = malloc(size + 1);
    for (uint64_t i = 0; i < 3000; i++) {
        memcpy(text, minimal, size + 1);
        for (uint64_t k = 0; k < 1 + i % 4; k++)
            text[sp_rng_bits(i, 2 * k) % size] =
                "0-9:[]{},&*!\n \t\"'#%\x80\xff\x01"[sp_rng_bits(i, 2 * k + 1) % 23];
        size_t cut = i % 3 ? size : sp_rng_bits(i, 99) % size;
        sparoa_error err = {0};
        sparoa_status status = sp_platform_parse(&alloc, "m", text, cut, &platform, &err);
        if (status != SPAROA_OK) assert_true(err.message[0] != 0);
    }
    free(text);
}

static void *no_alloc(void *user, size_t size, size_t align)
{
    int *left = user;
    return (*left)-- > 0 ? aligned_alloc(align, (size + align - 1) / align * align) : NULL;
}

static void no_free(void *user, void *ptr, size_t size)
{
    free(ptr);
}

static void every_allocation_fails(void **state)
{
    for (int n = 0; n < 60; n++) {
        int left = n;
        sparoa_allocator a = {&left, no_alloc, no_free};
        sparoa_status s = sp_platform_parse(&a, "m", minimal, strlen(minimal), &platform, NULL);
        assert_true(s == SPAROA_OK || s == SPAROA_OUT_OF_MEMORY);
        if (s == SPAROA_OK) return;
    }
    fail();
}

/* A corrected roofline: at a sample its own factor, far away the roofline, in between a mean; other
 * operators' samples count only where there are none of the same. */
static void samples(void **state)
{
    char text[4096];
    snprintf(text, sizeof text,
             "%s"
             "    samples:\n"
             "      - [Conv, conv, 1e8, 1e5, 1e5, 1e5, 2]\n"
             "      - [Conv, conv, 1e6, 1e4, 1e4, 1e4, 0.5]\n"
             "      - [ConvTranspose, conv, 1e8, 1e5, 1e5, 1e5, 8]\n"
             "links: []\n",
             "format: sparoa-platform\nversion: 1\nname: m\ndevices:\n"
             "  - name: cpu\n    kind: cpu\n    peak_gflops: 100\n    bandwidth_gbs: 100\n"
             "    kinds: {default: {efficiency: 0.5}}\n");
    sparoa_error err = {0};
    if (sp_platform_parse(&alloc, "s", text, strlen(text), &platform, &err))
        fail_msg("%s", err.message);
    sp_work w = {.kind = SPAROA_CLASS_CONV, .cost = {1e8, 1e5, 1e5, 1e5}, .op = sp_op_key("Conv")};
    double roofline = 1e8 / 50e9 * 1e9;
    double at = sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, NULL).ns;
    assert_true(fabs(at / roofline - 2) < 0.05);
    w.op = sp_op_key("ConvTranspose");
    at = sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, NULL).ns;
    assert_true(fabs(at / roofline - 8) < 0.2);
    w.op = sp_op_key("Conv");
    w.cost = (sparoa_cost){1e6, 1e4, 1e4, 1e4};
    at = sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, NULL).ns;
    assert_true(fabs(at / (roofline / 100) - 0.5) < 0.02);
    w.cost = (sparoa_cost){1, 1e9, 1e9, 1e9}; /* nothing like it was measured */
    at = sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, NULL).ns;
    assert_true(at > 3e9 / 100e9 * 1e9 * 0.7 && at < 3e9 / 100e9 * 1e9 * 1.4);
    w.kind = SPAROA_CLASS_GEMM; /* no samples */
    at = sp_platform_cost(&platform, 0, SP_REGIME_GRAPH, &w, NULL).ns;
    assert_true(fabs(at / (3e9 / 100e9 * 1e9) - 1) < 1e-9);

    write_and_read();
}

static void damaged_samples(void **state)
{
    static const char *const bad[][2] = {
        {"[Conv, conv, 1e8, 1e5, 1e5, 1e5]", "s:9: devices[0].samples[0]: expected [operator"},
        {"[Conv, conv, 1e8, -1, 1e5, 1e5, 1]", "samples[0][3]: -1 is not within"},
        {"[Conv, conv, 1, 1, 1, 1, 0]", "samples[0][6]: 0 is not within"},
        {"[Conv, [conv], 1, 1, 1, 1, 1]", "expected [operator"},
        {"[\"\", conv, 1, 1, 1, 1, 1]", "samples[0][0]: expected 1..23 characters"},
        {"[Conv, cnov, 1, 1, 1, 1, 1]", "'cnov' is no kind"},
        {"[Conv, conv, 1, 1, 1, 1, 1]\n      - [Relu, eltwise, 1, 1, 1, 1, 1]",
         "s:12: devices[0].samples[1][1]: samples must be in the order of kinds"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[1024];
        sparoa_error err = {0};
        snprintf(text, sizeof text,
                 "format: sparoa-platform\nversion: 1\nname: m\ndevices:\n"
                 "  - {name: cpu, kind: cpu, peak_gflops: 1,\n     bandwidth_gbs: 1,\n     kinds: "
                 "{default: {}},\n     samples: [\n %s]}\n",
                 bad[i][0]);
        if (strchr(bad[i][0], '\n')) /* block style */
            snprintf(text, sizeof text,
                     "format: sparoa-platform\nversion: 1\nname: m\ndevices:\n"
                     "  - name: cpu\n    kind: cpu\n    peak_gflops: 1\n    bandwidth_gbs: 1\n"
                     "    kinds: {default: {}}\n    samples:\n      - %s\n",
                     bad[i][0]);
        assert_int_equal(sp_platform_parse(&alloc, "s", text, strlen(text), &platform, &err),
                         SPAROA_MALFORMED);
        if (!strstr(err.message, bad[i][1])) fail_msg("%s, expected %s", err.message, bad[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(clocks, memory_set_up, memory_tear_down),
        cmocka_unit_test_setup_teardown(samples, memory_set_up, memory_tear_down),
        cmocka_unit_test_setup_teardown(damaged_samples, memory_set_up, memory_tear_down),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(prices_by_hand),
        cmocka_unit_test(names_line_and_field),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(every_allocation_fails)};
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
