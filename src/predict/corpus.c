#include "predict/corpus.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/yaml.h"
#include "ops/op.h"

enum { TEXTS = 4, NUMBERS = 12, FIELDS = TEXTS + NUMBERS, FIELD_BYTES = 64, MOST_OPS = 4096 };
#define MAX_BYTES ((size_t)64 << 20)

static const struct {
    const char *name;
    double min, max;
} numbers[NUMBERS] = {{"flops", 0, 1e18},     {"bytes_in", 0, 1e18},  {"bytes_w", 0, 1e18},
                      {"bytes_out", 0, 1e18}, {"weight_zeros", 0, 1}, {"input_zeros", 0, 1},
                      {"batch", 1, 1e9},      {"channels", 0, 1e12},  {"pixels", 0, 1e18},
                      {"kernel", 1, 1e6},     {"stride", 1, 1e6},     {"groups", 1, 1e9}};

static const char *name_of(size_t field)
{
    static const char *const texts[TEXTS] = {"family", "model", "regime", "kind"};
    return field < TEXTS ? texts[field] : numbers[field - TEXTS].name;
}

typedef struct reader {
    sp_predict_corpus *c;
    const char *what;
    size_t line;
    sparoa_error *err;
    char field[FIELDS][FIELD_BYTES];
} reader;

static sparoa_status fault(const reader *r, const char *field, const char *message,
                           const char *text)
{
    return sparoa_fail(r->err, SPAROA_MALFORMED, NULL, "%.100s:%zu: %s: %s%s%.40s%s", r->what,
                       r->line, field, message, text ? ", not '" : "", text ? text : "",
                       text ? "'" : "");
}

/* Cuts a line at its tabs. */
static sparoa_status cut(reader *r, const char *line, size_t size)
{
    size_t count = 0, n = 0;
    for (size_t i = 0; i <= size; i++) {
        if (i < size && line[i] != '\t') {
            if (n + 1 >= FIELD_BYTES || !line[i])
                return fault(r, name_of(count), "too long, or a zero byte", NULL);
            r->field[count][n++] = line[i];
            continue;
        }
        r->field[count++][n] = 0;
        n = 0;
        if (count == FIELDS && i < size) return fault(r, "line", "more than 16 fields", NULL);
    }
    return count == FIELDS ? SPAROA_OK : fault(r, "line", "expected 16 fields", NULL);
}

static int kind_named(const char *name)
{
    for (int k = 0; k < SP_KIND_COUNT; k++)
        if (strcmp(sp_kind_name(k), name) == 0) return k;
    return -1;
}

static sparoa_status read_op(const reader *r, sp_predict_op *o)
{
    double v[NUMBERS];
    int kind = kind_named(r->field[3]);
    if (kind < 0) return fault(r, "kind", "expected a kind of operator", r->field[3]);
    for (int i = 0; i < NUMBERS; i++) {
        const char *text = r->field[TEXTS + i];
        if (!sp_number_of(text, &v[i])) return fault(r, numbers[i].name, "expected a number", text);
        if (!(v[i] >= numbers[i].min && v[i] <= numbers[i].max))
            return sparoa_fail(r->err, SPAROA_MALFORMED, NULL,
                               "%.100s:%zu: %s: %g is not within %g..%g", r->what, r->line,
                               numbers[i].name, v[i], numbers[i].min, numbers[i].max);
    }
    *o = (sp_predict_op){.work = {.kind = kind,
                                  .cost = {v[0], v[1], v[2], v[3]},
                                  .weight_zeros = v[4],
                                  .input_zeros = v[5]},
                         .batch = v[6],
                         .channels = v[7],
                         .pixels = v[8],
                         .kernel = v[9],
                         .stride = v[10],
                         .groups = v[11]};
    return SPAROA_OK;
}

static bool same_model(const sp_predict_model *m, const reader *r, sp_regime regime)
{
    return m->regime == regime && strcmp(m->family, r->field[0]) == 0 &&
           strcmp(m->name, r->field[1]) == 0;
}

static sparoa_status add(reader *r)
{
    sp_predict_corpus *c = r->c;
    sp_regime regime = SP_REGIME_EAGER;
    sp_predict_op op;
    if (!r->field[0][0] || strlen(r->field[0]) >= sizeof c->models->family)
        return fault(r, "family", "expected 1 to 31 bytes", NULL);
    if (!r->field[1][0]) return fault(r, "model", "expected a name", NULL);
    while (regime < SP_REGIME_COUNT && strcmp(sp_regime_name(regime), r->field[2])) regime++;
    if (regime == SP_REGIME_COUNT)
        return fault(r, "regime", "expected eager or graph", r->field[2]);
    SP_TRY(read_op(r, &op));
    sp_predict_model *m = c->model_count ? &c->models[c->model_count - 1] : NULL;
    if (!m || !same_model(m, r, regime)) {
        if (!sp_grow(&c->alloc, &c->models, &c->model_room, c->model_count + 1, sizeof *c->models))
            return sp_no_memory(&c->alloc, sizeof *c->models, r->err);
        m = &c->models[c->model_count++];
        *m = (sp_predict_model){.regime = regime, .first = c->op_count};
        snprintf(m->family, sizeof m->family, "%.31s", r->field[0]);
        snprintf(m->name, sizeof m->name, "%s", r->field[1]);
    }
    if (m->count == MOST_OPS) return fault(r, "model", "more than 4096 operators", r->field[1]);
    if (!sp_grow(&c->alloc, &c->ops, &c->op_room, c->op_count + 1, sizeof *c->ops))
        return sp_no_memory(&c->alloc, sizeof *c->ops, r->err);
    c->ops[c->op_count++] = op;
    m->count++;
    return SPAROA_OK;
}

static sparoa_status read_lines(reader *r, const char *data, size_t size)
{
    static const char head[] = SP_PREDICT_CORPUS_HEAD;
    const char *end = data + size;
    if (!size) r->line = 1;
    for (const char *line = data; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((stop ? stop : end) - line);
        if (++r->line == 1) {
            if (n != sizeof head - 1 || memcmp(line, head, n) != 0)
                return sparoa_fail(r->err,
                                   n > 14 && memcmp(line, head, 14) == 0
                                       ? SPAROA_UNSUPPORTED_VERSION
                                       : SPAROA_MALFORMED,
                                   NULL, "%.100s:1: head: expected '%.60s ...'", r->what, head);
        } else {
            SP_TRY(cut(r, line, n));
            SP_TRY(add(r));
        }
        line += n + 1;
    }
    return r->c->op_count ? SPAROA_OK : fault(r, "line", "expected operators", NULL);
}

sparoa_status sp_predict_corpus_parse(const sparoa_allocator *alloc, const char *what,
                                      const char *data, size_t size, sp_predict_corpus *corpus,
                                      sparoa_error *err)
{
    *corpus = (sp_predict_corpus){.alloc = *alloc};
    reader r = {.c = corpus, .what = what, .err = err};
    if (size > MAX_BYTES)
        return sparoa_fail(err, SPAROA_TOO_LARGE, NULL, "%.100s: %zu bytes, at most %zu are read",
                           what, size, MAX_BYTES);
    sparoa_status status = read_lines(&r, data, size);
    if (status) sp_predict_corpus_free(corpus);
    return status;
}

sparoa_status sp_predict_corpus_load(const sparoa_allocator *alloc, const char *path,
                                     sp_predict_corpus *corpus, sparoa_error *err)
{
    char *data;
    size_t size;
    SP_TRY(sp_file_read(alloc, path, MAX_BYTES, &data, &size, err));
    sparoa_status status =
        sp_predict_corpus_parse(alloc, sp_file_name(path), data, size, corpus, err);
    sp_free(alloc, data, size + 1);
    return status;
}

void sp_predict_corpus_free(sp_predict_corpus *corpus)
{
    sp_free(&corpus->alloc, corpus->ops, corpus->op_room * sizeof *corpus->ops);
    sp_free(&corpus->alloc, corpus->models, corpus->model_room * sizeof *corpus->models);
    corpus->ops = NULL;
    corpus->models = NULL;
    corpus->op_count = corpus->model_count = corpus->op_room = corpus->model_room = 0;
}

static bool hold(sp_predict_corpus *c, const char *family, size_t n)
{
    bool found = false;
    for (size_t i = 0; i < c->model_count; i++) {
        sp_predict_model *m = &c->models[i];
        if (strlen(m->family) != n || memcmp(m->family, family, n) != 0) continue;
        m->held = found = true;
    }
    return found;
}

sparoa_status sp_predict_corpus_hold(sp_predict_corpus *corpus, const char *families,
                                     sparoa_error *err)
{
    for (const char *p = families ? families : SP_PREDICT_HELD; *p;) {
        size_t n = strcspn(p, ",");
        if (n && !hold(corpus, p, n) && families)
            return sparoa_fail(err, SPAROA_NOT_FOUND, NULL,
                               "the corpus has no family '%.*s' to hold out",
                               (int)(n < 60 ? n : 60), p);
        p += n + (p[n] == ',');
    }
    return SPAROA_OK;
}
