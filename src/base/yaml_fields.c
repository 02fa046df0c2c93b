/* Fetching fields with checks, and writing text. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/yaml.h"
#include "sparoa_backend.h"

static size_t path_of(const sp_yaml_node *node, char *text, size_t size)
{
    if (!node || !node->parent) return 0;
    size_t used = path_of(node->parent, text, size);
    int n;
    if (used >= size) return used;
    if (node->key)
        n = snprintf(text + used, size - used, "%s%.60s", used ? "." : "", node->key);
    else
        n = snprintf(text + used, size - used, "[%u]", node->index);
    return n < 0 ? used : used + (size_t)n;
}

void sp_yaml_fault(sp_yaml_reader *r, const sp_yaml_node *at, sparoa_status status,
                   const char *format, ...)
{
    if (r->status != SPAROA_OK) return;
    r->status = status;
    char path[160] = "", message[200];
    path_of(at, path, sizeof path);
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    sparoa_fail(r->err, status, NULL, "%.100s:%u: %s%s%s", r->what, at ? at->line : 0, path,
                path[0] ? ": " : "", message);
}

const sp_yaml_node *sp_yaml_get(sp_yaml_reader *r, const sp_yaml_node *map, const char *key,
                                bool need)
{
    if (r->status != SPAROA_OK || !map) return NULL;
    if (map->kind != SP_YAML_MAP) {
        sp_yaml_fault(r, map, SPAROA_MALFORMED, "expected a map with '%s'", key);
        return NULL;
    }
    for (const sp_yaml_node *n = map->first; n; n = n->next)
        if (strcmp(n->key, key) == 0) return n;
    if (need) sp_yaml_fault(r, map, SPAROA_MALFORMED, "field '%s' is missing", key);
    return NULL;
}

const sp_yaml_node *sp_yaml_child(sp_yaml_reader *r, const sp_yaml_node *map, const char *key,
                                  sp_yaml_kind kind, bool need)
{
    static const char *const names[] = {"a value", "a list", "a map"};
    const sp_yaml_node *n = sp_yaml_get(r, map, key, need);
    if (!n || n->kind == kind) return n;
    sp_yaml_fault(r, n, SPAROA_MALFORMED, "expected %s", names[kind]);
    return NULL;
}

static bool among(const char *key, const char *keys)
{
    size_t size = strlen(key);
    for (const char *k = keys; *k;) {
        size_t n = strcspn(k, "|");
        if (n == size && memcmp(k, key, n) == 0) return true;
        k += n + (k[n] == '|');
    }
    return false;
}

void sp_yaml_only(sp_yaml_reader *r, const sp_yaml_node *map, const char *keys)
{
    if (r->status != SPAROA_OK || !map) return;
    if (map->kind != SP_YAML_MAP) sp_yaml_fault(r, map, SPAROA_MALFORMED, "expected a map");
    for (const sp_yaml_node *n = map->first; r->status == SPAROA_OK && n; n = n->next)
        if (!among(n->key, keys))
            sp_yaml_fault(r, n, SPAROA_MALFORMED, "unknown field; known are %.120s", keys);
}

bool sp_number_of(const char *text, double *value)
{
    char copy[64], *end;
    size_t n = strlen(text);
    if (!n || n >= sizeof copy || strspn(text, "+-.0123456789eE") != n) return false;
    memcpy(copy, text, n + 1);
    char *point = strchr(copy, '.');
    if (point) *point = localeconv()->decimal_point[0];
    *value = strtod(copy, &end);
    return *end == 0 && isfinite(*value);
}

double sp_yaml_value(sp_yaml_reader *r, const sp_yaml_node *node, double min, double max)
{
    if (r->status != SPAROA_OK || !node) return min;
    double v = 0;
    if (node->kind != SP_YAML_TEXT || !sp_number_of(node->text, &v)) {
        sp_yaml_fault(r, node, SPAROA_MALFORMED, "expected a number%s%.60s%s",
                      node->text ? ", not '" : "", node->text ? node->text : "",
                      node->text ? "'" : "");
        return min;
    }
    if (!(v >= min && v <= max)) {
        sp_yaml_fault(r, node, SPAROA_MALFORMED, "%g is not within %g..%g", v, min, max);
        return min;
    }
    return v;
}

double sp_yaml_number(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, double min,
                      double max)
{
    return sp_yaml_value(r, sp_yaml_get(r, map, key, true), min, max);
}

double sp_yaml_number_or(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, double min,
                         double max, double fallback)
{
    const sp_yaml_node *n = sp_yaml_get(r, map, key, false);
    return n ? sp_yaml_value(r, n, min, max) : fallback;
}

bool sp_yaml_flag_or(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, bool fallback)
{
    const sp_yaml_node *n = sp_yaml_child(r, map, key, SP_YAML_TEXT, false);
    if (!n) return fallback;
    if (strcmp(n->text, "true") == 0) return true;
    if (strcmp(n->text, "false") != 0)
        sp_yaml_fault(r, n, SPAROA_MALFORMED, "expected true or false, not '%.60s'", n->text);
    return false;
}

const char *sp_yaml_string(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, bool need)
{
    const sp_yaml_node *n = sp_yaml_child(r, map, key, SP_YAML_TEXT, need);
    return n ? n->text : "";
}

void sp_yaml_header(sp_yaml_reader *r, const sp_yaml_node *root, const char *format,
                    int64_t version)
{
    const sp_yaml_node *f = sp_yaml_child(r, root, "format", SP_YAML_TEXT, true);
    if (f && strcmp(f->text, format))
        sp_yaml_fault(r, f, SPAROA_MALFORMED, "expected '%s', not '%.60s'", format, f->text);
    double v = sp_yaml_number(r, root, "version", 0, 1e9);
    if (r->status == SPAROA_OK && v != (double)version)
        sp_yaml_fault(r, sp_yaml_get(r, root, "version", true), SPAROA_UNSUPPORTED_VERSION,
                      "version %g of %s, this library reads %lld", v, format, (long long)version);
}

/* ---- writing ---- */

void sp_text_init(sp_text *text, const sparoa_allocator *alloc)
{
    *text = (sp_text){.alloc = *alloc};
}

void sp_text_free(sp_text *text)
{
    sp_free(&text->alloc, text->data, text->capacity);
    *text = (sp_text){.alloc = text->alloc};
}

static bool reserve(sp_text *text, size_t more)
{
    if (text->failed) return false;
    text->failed = !sp_grow(&text->alloc, &text->data, &text->capacity, text->size + more + 1, 1);
    return !text->failed;
}

void sp_text_add(sp_text *text, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && reserve(text, (size_t)n)) {
        vsnprintf(text->data + text->size, (size_t)n + 1, format, again);
        text->size += (size_t)n;
    }
    va_end(again);
}

void sp_text_quote(sp_text *text, const char *string)
{
    sp_text_add(text, "\"");
    for (const char *s = string; *s;) {
        size_t plain = 0;
        while ((unsigned char)s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\' &&
               s[plain] != 0x7f)
            plain++;
        sp_text_add(text, "%.*s", (int)plain, s);
        s += plain;
        if (!*s) break;
        if (*s == '"' || *s == '\\')
            sp_text_add(text, "\\%c", *s);
        else
            sp_text_add(text, "\\u%04x", (unsigned char)*s);
        s++;
    }
    sp_text_add(text, "\"");
}

void sp_text_number(sp_text *text, double value)
{
    sp_text_digits(text, value, 9);
}

void sp_text_digits(sp_text *text, double value, int count)
{
    char digits[40];
    snprintf(digits, sizeof digits, "%.*g", count, value == 0 ? 0.0 : value); /* no -0 */
    for (char *c = digits; *c; c++)
        if (*c == ',') *c = '.'; /* the locale's */
    sp_text_add(text, "%s", digits);
}

sparoa_status sp_text_save(const sp_text *text, const char *path, sparoa_error *err)
{
    if (text->failed) return sp_no_memory(&text->alloc, text->size, err);
    return sp_file_write(path, text->data, text->size, err);
}
