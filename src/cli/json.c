#include "cli/json.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

sp_json sp_json_to(FILE *file)
{
    return (sp_json){.file = file};
}

static void line(sp_json *json)
{
    if (json->flat[json->depth]) return;
    fprintf(json->file, "\n%*s", 2 * json->depth, "");
}

/* Length of the UTF-8 sequence at `at`, 0 if it is not well formed. */
static int utf8_length(const unsigned char *at)
{
    int n = at[0] < 0x80 ? 1 : (at[0] & 0xe0) == 0xc0 ? 2 : (at[0] & 0xf0) == 0xe0 ? 3 : 4;
    if (n == 1) return 1;
    if (n == 4 && (at[0] & 0xf8) != 0xf0) return 0;
    for (int i = 1; i < n; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    if ((n == 2 && at[0] < 0xc2) || (at[0] == 0xe0 && at[1] < 0xa0) ||
        (at[0] == 0xf0 && at[1] < 0x90))
        return 0; /* longer than needed */
    if ((at[0] == 0xed && at[1] > 0x9f) ||
        (n == 4 && (at[0] > 0xf4 || (at[0] == 0xf4 && at[1] > 0x8f))))
        return 0; /* a surrogate, or past U+10FFFF */
    return n;
}

static void quoted(FILE *file, const char *text)
{
    fputc('"', file);
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        int n = utf8_length(at);
        if (n == 0) {
            fputs("\\ufffd", file);
            at++;
        } else if (n > 1) {
            fwrite(at, 1, (size_t)n, file);
            at += n;
        } else {
            unsigned char c = *at++;
            if (c == '"' || c == '\\')
                fprintf(file, "\\%c", c);
            else if (c == '\n')
                fputs("\\n", file);
            else if (c == '\t')
                fputs("\\t", file);
            else if (c == '\r')
                fputs("\\r", file);
            else if (c < 0x20 || c == 0x7f)
                fprintf(file, "\\u%04x", c);
            else
                fputc(c, file);
        }
    }
    fputc('"', file);
}

static void start(sp_json *json, const char *key)
{
    if (json->used[json->depth]) fputs(json->flat[json->depth] ? ", " : ",", json->file);
    if (json->depth > 0) line(json);
    json->used[json->depth] = true;
    if (key) {
        quoted(json->file, key);
        fputs(": ", json->file);
    }
}

static void open(sp_json *json, const char *key, char bracket, bool flat)
{
    start(json, key);
    fputc(bracket, json->file);
    bool inherit = json->flat[json->depth];
    if (json->depth + 1 < SP_JSON_DEPTH) json->depth++;
    json->used[json->depth] = false;
    json->flat[json->depth] = flat || inherit;
}

static void shut(sp_json *json, char bracket)
{
    bool used = json->used[json->depth], flat = json->flat[json->depth];
    if (json->depth > 0) json->depth--;
    if (used && !flat) fprintf(json->file, "\n%*s", 2 * json->depth, "");
    fputc(bracket, json->file);
    if (json->depth == 0) fputc('\n', json->file);
}

void sp_json_object(sp_json *json, const char *key)
{
    open(json, key, '{', false);
}

void sp_json_array(sp_json *json, const char *key)
{
    open(json, key, '[', false);
}

void sp_json_flat_object(sp_json *json, const char *key)
{
    open(json, key, '{', true);
}

void sp_json_flat_array(sp_json *json, const char *key)
{
    open(json, key, '[', true);
}

void sp_json_end_object(sp_json *json)
{
    shut(json, '}');
}

void sp_json_end_array(sp_json *json)
{
    shut(json, ']');
}

void sp_json_null(sp_json *json, const char *key)
{
    start(json, key);
    fputs("null", json->file);
}

void sp_json_string(sp_json *json, const char *key, const char *text)
{
    if (!text) {
        sp_json_null(json, key);
        return;
    }
    start(json, key);
    quoted(json->file, text);
}

void sp_json_int(sp_json *json, const char *key, int64_t value)
{
    start(json, key);
    fprintf(json->file, "%lld", (long long)value);
}

void sp_json_number(sp_json *json, const char *key, double value)
{
    if (!isfinite(value)) {
        sp_json_null(json, key);
        return;
    }
    start(json, key);
    fprintf(json->file, "%.9g", value);
}

void sp_json_bool(sp_json *json, const char *key, bool value)
{
    start(json, key);
    fputs(value ? "true" : "false", json->file);
}

/* ---- Checking ---- */

static const char *value(const char *at, int depth);

static const char *space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

static const char *string(const char *at)
{
    if (*at++ != '"') return NULL;
    while (*at != '"') {
        int n = utf8_length((const unsigned char *)at);
        if (!n || (unsigned char)*at < 0x20) return NULL;
        if (*at != '\\') {
            at += n;
            continue;
        }
        at++;
        if (*at == 'u') {
            for (int i = 1; i <= 4; i++)
                if (!isxdigit((unsigned char)at[i])) return NULL;
            at += 5;
        } else if (*at && strchr("\"\\/bfnrt", *at)) {
            at++;
        } else {
            return NULL;
        }
    }
    return at + 1;
}

static const char *digits(const char *at)
{
    size_t n = strspn(at, "0123456789");
    return n ? at + n : NULL;
}

static const char *number(const char *at)
{
    if (*at == '-') at++;
    if (*at == '0')
        at++;
    else if (!(at = digits(at)))
        return NULL;
    if (*at == '.' && !(at = digits(at + 1))) return NULL;
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-') at++;
        at = digits(at);
    }
    return at;
}

static const char *container(const char *at, int depth, char end)
{
    at = space(at + 1);
    if (*at == end) return at + 1;
    for (;;) {
        if (end == '}') {
            if (!(at = string(at))) return NULL;
            at = space(at);
            if (*at++ != ':') return NULL;
        }
        if (!(at = value(at, depth + 1))) return NULL;
        at = space(at);
        if (*at == end) return at + 1;
        if (*at++ != ',') return NULL;
        at = space(at);
    }
}

static const char *value(const char *at, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    if (depth > 100) return NULL;
    at = space(at);
    if (*at == '{') return container(at, depth, '}');
    if (*at == '[') return container(at, depth, ']');
    if (*at == '"') return string(at);
    for (int i = 0; i < 3; i++)
        if (strncmp(at, words[i], strlen(words[i])) == 0) return at + strlen(words[i]);
    return number(at);
}

bool sp_json_valid(const char *text)
{
    const char *end = value(text, 0);
    return end && !*space(end);
}
