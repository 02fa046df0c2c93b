/* What the tests of sparoa.h share: refusals, and one model opened. */
#ifndef TESTS_API_API_H
#define TESTS_API_API_H

#include "tests/support/support.h"

#define DIGITS SPAROA_SOURCE_DIR "/models/digits/digits.onnx"

static sparoa_error err;

/* The call must fail with that status and, where it fills an error, say something that contains
 * `text`. */
#define refused(call, want, text)                                                                  \
    do {                                                                                           \
        memset(&err, 0, sizeof err);                                                               \
        sparoa_status got_ = (call);                                                               \
        if (got_ != (want) || err.status != (want) || !strstr(err.message, (text)))                \
            fail_msg("%s\ngot %s: %s\nexpected %s with '%s'", #call, sparoa_status_name(got_),     \
                     err.message, sparoa_status_name(want), (text));                               \
    } while (0)

typedef struct bench {
    ts_memory memory;
    sparoa_runtime *rt;
    sparoa_model *model;
    sparoa_session *s;
} bench;

static inline bench open_model(mb_model *m)
{
    static ts_memory memory;
    memory = (ts_memory){0};
    bench b = {.rt = ts_runtime(&memory, 1)};
    if (m)
        b.model = ts_load(b.rt, m);
    else
        ts_ok(sparoa_model_load(b.rt, DIGITS, NULL, &b.model, &err), err);
    b.s = ts_session(b.model, NULL, 0);
    return b;
}

static inline void close_model(bench *b)
{
    sparoa_session_destroy(b->s);
    sparoa_model_destroy(b->model);
    sparoa_runtime_destroy(b->rt);
    mb_end();
}

#endif
