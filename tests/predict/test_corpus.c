/* Corpus files: what is read, and what is refused with line and field. */
#include <stdio.h>

#include "predict/corpus.h"
#include "tests/support/memory.h"

#define CONV "vit\ta\teager\tconv\t1e6\t100\t200\t300\t0.5\t0\t1\t8\t64\t3\t1\t1\n"

#define LONG "0123456789012345678901234567890123456789012345678901234567890123" /* 64 bytes */

static sparoa_status parse(const char *lines, sp_predict_corpus *c, sparoa_error *err)
{
    char text[4096];
    snprintf(text, sizeof text, "%s\n%s", SP_PREDICT_CORPUS_HEAD, lines);
    return sp_predict_corpus_parse(&alloc, "c.tsv", text, strlen(text), c, err);
}

static void test_reads(void **state)
{
    sp_predict_corpus c;
    sparoa_error err;
    assert_int_equal(parse(CONV CONV
                           "vit\ta\tgraph\tview\t0\t4\t0\t4\t0\t0\t1\t1\t1\t1\t1\t1\n"
                           "swin\tb\tgraph\tdepthwise\t7\t4\t0\t4\t0\t1\t1\t1\t1\t1\t1\t8",
                           &c, &err),
                     SPAROA_OK);
    assert_int_equal(c.op_count, 4);
    assert_int_equal(c.model_count, 3);
    assert_int_equal(c.models[0].count, 2);
    assert_int_equal(c.models[1].regime, SP_REGIME_GRAPH);
    assert_true(c.ops[0].work.cost.flops == 1e6 && c.ops[0].work.weight_zeros == 0.5);
    assert_true(c.ops[3].work.kind == SP_KIND_DEPTHWISE && c.ops[3].groups == 8);

    assert_int_equal(sp_predict_corpus_hold(&c, "swin,none", &err), SPAROA_NOT_FOUND);
    assert_non_null(strstr(err.message, "'none'"));
    assert_int_equal(sp_predict_corpus_hold(&c, "swin", &err), SPAROA_OK);
    assert_true(c.models[2].held && !c.models[0].held && !c.models[1].held);
    assert_int_equal(sp_predict_corpus_hold(&c, NULL, &err), SPAROA_OK); /* by default both */
    assert_true(c.models[0].held && c.models[1].held);
    sp_predict_corpus_free(&c);
}

static void test_refuses(void **state)
{
    static const struct {
        const char *lines, *message;
    } bad[] = {
        {"", "c.tsv:1: line: expected operators"},
        {"vit\t" LONG "\teager\tconv\t1\t1\t2\t3\t0\t0\t1\t8\t64\t3\t1\t1\n",
         "c.tsv:2: model: too"},
        {"vit\ta\teager\tconv\t1\t" LONG "\t2\t3\t0\t0\t1\t8\t64\t3\t1\t1\n", "bytes_in: too long"},
        {CONV "x\ty\n", "c.tsv:3: line: expected 16 fields"},
        {CONV "vit\ta\teager\tconv\t1e6\t100\t200\t300\t0.5\t0\t1\t8\t64\t3\t1\t1\t9\n",
         "c.tsv:3: line: more than 16 fields"},
        {"\ta\teager\tconv\t1\t1\t2\t3\t0\t0\t1\t8\t64\t3\t1\t1\n", "c.tsv:2: family:"},
        {"vit\t\teager\tconv\t1\t1\t2\t3\t0\t0\t1\t8\t64\t3\t1\t1\n", "c.tsv:2: model:"},
        {"vit\ta\tlazy\tconv\t1\t1\t2\t3\t0\t0\t1\t8\t64\t3\t1\t1\n", "regime: expected eager or"},
        {"vit\ta\teager\tsoup\t1\t1\t2\t3\t0\t0\t1\t8\t64\t3\t1\t1\n", "kind: expected"},
        {"vit\ta\teager\tconv\tnan\t1\t2\t3\t0\t0\t1\t8\t64\t3\t1\t1\n",
         "flops: expected a number"},
        {"vit\ta\teager\tconv\t1\t1\t2\t-3\t0\t0\t1\t8\t64\t3\t1\t1\n",
         "bytes_out: -3 is not within"},
        {"vit\ta\teager\tconv\t1\t1\t2\t3\t1.5\t0\t1\t8\t64\t3\t1\t1\n",
         "weight_zeros: 1.5 is not within 0..1"},
        {"vit\ta\teager\tconv\t1\t1\t2\t3\t0\t0\t1\t8\t64\t3\t0\t1\n", "stride: 0 is not within"},
        {"vit\ta\teager\tconv\t1\t1\t2\t3\t0\t0\t1\t8\t64\t3\t1\t1e99\n", "groups: 1e+99 is not"},
    };
    sp_predict_corpus c;
    sparoa_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(bad[i].lines, &c, &err), SPAROA_MALFORMED);
        if (!strstr(err.message, bad[i].message))
            fail_msg("'%s', expected '%s'", err.message, bad[i].message);
    }
    static const char old[] = "sparoa-corpus 9\n";
    assert_int_equal(sp_predict_corpus_parse(&alloc, "c", old, sizeof old - 1, &c, &err),
                     SPAROA_UNSUPPORTED_VERSION);
    assert_int_equal(sp_predict_corpus_parse(&alloc, "c", "x", 1, &c, &err), SPAROA_MALFORMED);
    assert_int_equal(sp_predict_corpus_parse(&alloc, "c", "", 0, &c, &err), SPAROA_MALFORMED);
    assert_string_equal(err.message, "c:1: line: expected operators");
    assert_int_equal(sp_predict_corpus_load(&alloc, "/nowhere/c.tsv", &c, &err), SPAROA_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reads),
                                       cmocka_unit_test(test_refuses)};
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
