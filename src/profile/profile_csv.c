/* Profiles as CSV: a row for each node. What is of the whole profile stands in the first row. */
#include "ops/op.h"
#include "profile/profile_parts.h"

/* ---- writing ---- */

static void put_cell(sp_text *t, const char *text)
{
    sp_text_add(t, "\"");
    for (const char *c = text; *c; c++) sp_text_add(t, *c == '"' ? "\"\"" : "%c", *c);
    sp_text_add(t, "\"");
}

static void put_title(sp_text *t, const char *device, const char *what)
{
    char title[64];
    snprintf(title, sizeof title, "%s%s", device, what);
    sp_text_add(t, ",");
    if (strpbrk(device, "\",\r\n "))
        put_cell(t, title);
    else
        sp_text_add(t, "%s", title);
}

static void put_values(sp_text *t, const sp_profile *p, uint32_t first, uint32_t count)
{
    sp_text list;
    sp_text_init(&list, &p->alloc);
    sp_text_add(&list, "%s", "");
    for (uint32_t i = first; i < first + count; i++) {
        if (i > first) sp_text_add(&list, ", ");
        sp_profile_put_value(&list, &p->values[i], "\"");
    }
    sp_text_add(t, ",");
    put_cell(t, list.data ? list.data : "");
    t->failed |= list.failed;
    sp_text_free(&list);
}

static void put_row(sp_text *t, const sp_profile *p, const sp_profile_node *n)
{
    put_cell(t, n->name);
    sp_text_add(t, ",");
    put_cell(t, n->op);
    sp_text_add(t, ",%s,%s", sp_class_name(n->op_class), sp_kind_name(n->kind));
#define X(field, member, least)                                                                    \
    sp_text_add(t, ",");                                                                           \
    sp_text_number(t, n->member);
    SP_NODE_FIELDS(X)
#undef X
    sp_text_add(t, ",");
    sp_text_number(t, sp_flops_per_byte(n));
    sp_text_add(t, ",%s", sp_quadrant_name(sp_quadrant_of(n, NULL)));
    for (uint32_t d = 0; d < p->device_count; d++) {
        sp_text_add(t, ",");
        sp_text_number(t, n->measured_ns[d] * 1e-3);
        sp_text_add(t, ",");
        sp_text_number(t, n->spread_ns[d] * 1e-3);
    }
    sp_text_add(t, ",%s,", n->variant ? n->variant : "");
    for (uint32_t k = 0; k < n->n_in; k++)
        sp_text_add(t, "%s%u", k ? " " : "", p->reads[n->first_in + k]);
    sp_text_add(t, ",%u", n->n_out);
    put_values(t, p, n->first_out, n->n_out);
}

void sp_profile_write_csv(const sp_profile *p, sp_text *t)
{
    sp_text_add(t, "name,op,class,kind");
#define X(field, member, least) sp_text_add(t, "," #field);
    SP_NODE_FIELDS(X)
#undef X
    sp_text_add(t, ",flops_per_byte,quadrant");
    for (uint32_t d = 0; d < p->device_count; d++) {
        put_title(t, p->devices[d], "_us");
        put_title(t, p->devices[d], "_spread_us");
    }
    sp_text_add(t, ",variant,reads,writes,values,model,regime,version,schema,inputs\n");
    uint32_t inputs = 0;
    while (inputs < p->value_count && p->values[inputs].producer == SP_PROFILE_INPUT) inputs++;
    for (uint32_t i = 0; i < p->node_count; i++) {
        put_row(t, p, &p->nodes[i]);
        if (i) {
            sp_text_add(t, ",,,,,\n");
            continue;
        }
        sp_text_add(t, ",");
        put_cell(t, p->model);
        sp_text_add(t, ",%s,%d,%016llx", sp_regime_name(p->regime), SP_PROFILE_VERSION,
                    (unsigned long long)sp_profile_schema_hash());
        put_values(t, p, 0, inputs);
        sp_text_add(t, "\n");
    }
}

/* ---- reading ---- */

enum { COLUMNS = 64 };

/* What a cell becomes. */
typedef enum column_kind {
    COLUMN_TEXT,   /* a text of the node */
    COLUMN_NUMBER, /* a number of it */
    COLUMN_LIST,   /* numbers with spaces between them */
    COLUMN_VALUES, /* values, part of one list */
    COLUMN_TIME,
    COLUMN_SPREAD,
    COLUMN_HEAD, /* of the whole profile */
    COLUMN_INPUTS,
    COLUMN_DERIVED /* told by the others */
} column_kind;

typedef struct table {
    const char *what, *at, *end;
    sparoa_error *err;
    uint32_t line, count; /* of the row at hand; columns */
    column_kind kind[COLUMNS];
    char title[COLUMNS][48];
    sp_text *json, values, inputs, head, cell;
} table;

static sparoa_status fault(const table *t, const char *title, const char *what)
{
    return sparoa_fail(t->err, SPAROA_MALFORMED, NULL, "%s:%u: %s%s%s", t->what, t->line, title,
                       *title ? ": " : "", what);
}

/* The next cell into t->cell; *last: its row ends here. False: a quote is not closed. */
static bool next_cell(table *t, bool *last, uint32_t *lines)
{
    bool quoted = t->at < t->end && *t->at == '"';
    t->cell.size = 0;
    sp_text_add(&t->cell, "%s", "");
    t->at += quoted;
    for (; t->at < t->end; t->at++) {
        char c = *t->at;
        if (quoted && c == '"') {
            if (t->at + 1 == t->end || t->at[1] != '"') break;
            t->at++;
        } else if (!quoted && (c == ',' || c == '\n' || c == '\r')) {
            break;
        }
        *lines += c == '\n';
        sp_text_add(&t->cell, "%c", c);
    }
    if (quoted && (t->at == t->end || *t->at++ != '"')) return false;
    while (t->at < t->end && *t->at == '\r') t->at++;
    *last = t->at == t->end || *t->at == '\n';
    if (t->at < t->end && *t->at != '\n' && *t->at != ',') return false;
    t->at += t->at < t->end;
    return true;
}

static column_kind kind_of(const char *title)
{
    static const struct {
        const char *titles;
        column_kind kind;
    } known[] = {{"|name|op|class|kind|variant|", COLUMN_TEXT},
                 {"|reads|", COLUMN_LIST},
                 {"|values|", COLUMN_VALUES},
                 {"|model|regime|version|schema|", COLUMN_HEAD},
                 {"|inputs|", COLUMN_INPUTS},
                 {"|flops_per_byte|quadrant|", COLUMN_DERIVED},
#define X(field, member, least) "|" #field
                 {SP_NODE_FIELDS(X) "|writes|", COLUMN_NUMBER}};
#undef X
    char wanted[64];
    size_t n = strlen(title);
    snprintf(wanted, sizeof wanted, "|%.48s|", title);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strchr(title, '|') && strstr(known[i].titles, wanted)) return known[i].kind;
    if (n > 10 && strcmp(title + n - 10, "_spread_us") == 0) return COLUMN_SPREAD;
    return n > 3 && strcmp(title + n - 3, "_us") == 0 ? COLUMN_TIME : COLUMN_DERIVED;
}

static sparoa_status read_titles(table *t)
{
    bool last = false;
    uint32_t lines = 0;
    bool devices = false;
    while (!last) {
        if (!next_cell(t, &last, &lines)) return fault(t, "", "a quote that does not fit");
        size_t n = t->cell.failed ? 0 : t->cell.size;
        if (t->count == COLUMNS || !n || n >= sizeof *t->title)
            return fault(t, "", "too many columns, or a title is empty or too long");
        char *title = t->title[t->count];
        snprintf(title, sizeof *t->title, "%s", t->cell.data);
        for (uint32_t i = 0; i < t->count; i++)
            if (strcmp(t->title[i], title) == 0) return fault(t, title, "a second column of it");
        column_kind kind = t->kind[t->count++] = kind_of(title);
        if (kind == COLUMN_DERIVED && strcmp(title, "flops_per_byte") && strcmp(title, "quadrant"))
            return fault(t, title, "unknown column");
        if (kind != COLUMN_TIME) continue;
        title[n - 3] = 0;
        sp_text_add(&t->head, devices ? ", " : ", \"devices\": [");
        sp_text_quote(&t->head, title);
        devices = true;
        title[n - 3] = '_';
    }
    if (devices) sp_text_add(&t->head, "]");
    t->line += lines;
    return SPAROA_OK;
}

static void put_key(sp_text *to, const char *title)
{
    sp_text_add(to, ", ");
    sp_text_quote(to, title);
    sp_text_add(to, ": ");
}

/* As it stands if it may be a number; else in quotes, for the reader to refuse. */
static void put_number(sp_text *to, const char *text)
{
    if (*text && strspn(text, "0123456789+-.eE") == strlen(text))
        sp_text_add(to, "%s", text);
    else
        sp_text_quote(to, text);
}

static void put_list(sp_text *to, const char *text)
{
    bool good = strspn(text, "0123456789 ") == strlen(text);
    sp_text_add(to, "[");
    for (const char *c = text; good && *c; c++) sp_text_add(to, *c == ' ' ? ", " : "%c", *c);
    if (!good) sp_text_quote(to, text);
    sp_text_add(to, "]");
}

static void join(sp_text *to, const char *text)
{
    if (*text) sp_text_add(to, to->size ? ", %s" : "%s", text);
}

typedef struct row {
    bool first;
    uint32_t times, spreads;
    sp_text time, spread;
} row;

static void put_time(sp_text *to, uint32_t *count, const char *text)
{
    if ((*count)++) sp_text_add(to, ", ");
    put_number(to, text);
}

static sparoa_status take_cell(table *t, row *r, uint32_t column)
{
    const char *text = t->cell.data, *title = t->title[column];
    if (t->cell.failed) return sp_no_memory(&t->cell.alloc, t->cell.size, t->err);
    if (strlen(text) != t->cell.size) return fault(t, title, "a zero byte");
    switch (t->kind[column]) {
    case COLUMN_TEXT:
        if (!*text && strcmp(title, "variant") == 0) break;
        put_key(t->json, title);
        sp_text_quote(t->json, text);
        break;
    case COLUMN_NUMBER:
        put_key(t->json, title);
        put_number(t->json, text);
        break;
    case COLUMN_LIST:
        put_key(t->json, title);
        put_list(t->json, text);
        break;
    case COLUMN_TIME: put_time(&r->time, &r->times, text); break;
    case COLUMN_SPREAD: put_time(&r->spread, &r->spreads, text); break;
    case COLUMN_VALUES: join(&t->values, text); break;
    case COLUMN_INPUTS:
    case COLUMN_HEAD:
        if (!*text) break;
        if (!r->first) return fault(t, title, "only the first row has this");
        if (t->kind[column] == COLUMN_INPUTS) {
            join(&t->inputs, text);
            break;
        }
        put_key(&t->head, title);
        if (strcmp(title, "version") == 0)
            put_number(&t->head, text);
        else
            sp_text_quote(&t->head, text);
        break;
    case COLUMN_DERIVED: break;
    }
    return SPAROA_OK;
}

static sparoa_status read_row(table *t, row *r)
{
    bool last = false;
    uint32_t lines = 0;
    sparoa_status status = SPAROA_OK;
    sp_text_add(t->json, "{");
    size_t begin = t->json->size;
    for (uint32_t i = 0; !last && status == SPAROA_OK; i++) {
        if (!next_cell(t, &last, &lines)) return fault(t, "", "a quote that does not fit");
        if (i == t->count || (last && i + 1 < t->count))
            return fault(t, "", "more or fewer cells than titles");
        status = take_cell(t, r, i);
    }
    if (r->times) sp_text_add(t->json, ", \"measured_us\": [%s]", r->time.data ? r->time.data : "");
    if (r->spreads)
        sp_text_add(t->json, ", \"spread_us\": [%s]", r->spread.data ? r->spread.data : "");
    sp_text_add(t->json, "},\n");
    if (!t->json->failed && t->json->data[begin] == ',') t->json->data[begin] = ' ';
    for (t->line += lines + 1; lines; lines--) sp_text_add(t->json, "\n");
    return status;
}

bool sp_profile_is_csv(const void *data, size_t size)
{
    static const char begin[] = "name,op,";
    return size >= sizeof begin && memcmp(data, begin, sizeof begin - 1) == 0;
}

sparoa_status sp_profile_csv_to_json(const char *what, const char *data, size_t size, sp_text *json,
                                     sparoa_error *err)
{
    sp_text rows = {.alloc = json->alloc}; /* each on the line that it has in the table */
    table t = {.what = what, .at = data, .end = data + size, .err = err, .line = 1, .json = &rows};
    t.values.alloc = t.inputs.alloc = t.head.alloc = t.cell.alloc = json->alloc;
    sparoa_status status = read_titles(&t);
    const uint32_t first = ++t.line;
    while (status == SPAROA_OK && t.at < t.end) {
        row r = {.first = t.line == first};
        r.time.alloc = r.spread.alloc = json->alloc;
        status = read_row(&t, &r);
        rows.failed |= r.time.failed || r.spread.failed;
        sp_text_free(&r.time);
        sp_text_free(&r.spread);
    }
    const char *inputs = t.inputs.data ? t.inputs.data : "",
               *values = t.values.data ? t.values.data : "";
    /* What is of the whole profile stands in the first row. */
    sp_text_add(json, "{\n\"format\": \"%s\"%s, \"nodes\": [%s], \"values\": [%s%s%s]}\n",
                SP_PROFILE_FORMAT, t.head.data ? t.head.data : "", rows.data ? rows.data : "",
                inputs, *inputs && *values ? ", " : "", values);
    json->failed |=
        rows.failed || t.values.failed || t.inputs.failed || t.head.failed || t.cell.failed;
    sp_text_free(&rows);
    sp_text_free(&t.values);
    sp_text_free(&t.inputs);
    sp_text_free(&t.head);
    sp_text_free(&t.cell);
    if (status == SPAROA_OK && json->failed) return sp_no_memory(&json->alloc, size, err);
    return status;
}
