#include "cli/args.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool sp_strings_add(sp_strings *list, const char *text)
{
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items) return false;
    list->items = items;
    items[list->count++] = text;
    return true;
}

void sp_strings_free(sp_strings *list)
{
    free(list->items);
    list->items = NULL;
    list->count = 0;
}

bool sp_parse_int(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno || end == text || *end) return false;
    *value = number;
    return true;
}

bool sp_parse_number(const char *text, double *value)
{
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    if (end == text || *end || !isfinite(number)) return false;
    *value = number;
    return true;
}

/* Edit distance (insert, delete, replace) of two words of at most 63 bytes. */
static size_t distance(const char *a, const char *b)
{
    size_t rows = strlen(a), cols = strlen(b), line[64];
    if (rows > 63 || cols > 63) return 64;
    for (size_t j = 0; j <= cols; j++) line[j] = j;
    for (size_t i = 1; i <= rows; i++) {
        size_t diagonal = line[0];
        line[0] = i;
        for (size_t j = 1; j <= cols; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = line[j];
            if (line[j] + 1 < best) best = line[j] + 1;
            if (line[j - 1] + 1 < best) best = line[j - 1] + 1;
            line[j] = best;
        }
    }
    return line[cols];
}

const char *sp_args_nearest(const char *text, const char *const *words)
{
    const char *best = NULL;
    size_t length = strlen(text), limit = length < 4 ? 1 : length / 2;
    for (; *words; words++) {
        size_t d = strncmp(*words, text, length) == 0 && length > 1 ? 1 : distance(text, *words);
        if (d <= limit) {
            best = *words;
            if (d == 0) break;
            limit = d - 1;
        }
    }
    return best;
}

/* Name of an argument that starts with "--", up to '=' or the end. */
static bool name_is(const char *argument, const char *name)
{
    size_t length = strlen(name);
    return strncmp(argument, name, length) == 0 && (!argument[length] || argument[length] == '=');
}

static const sp_arg *find(const sp_arg *const *tables, const char *argument)
{
    for (; *tables; tables++)
        for (const sp_arg *row = *tables; row->kind != SP_ARG_END; row++) {
            if (row->kind == SP_ARG_REST) continue;
            if (argument[1] == '-' ? name_is(argument + 2, row->name)
                                   : row->letter && argument[1] == row->letter)
                return row;
        }
    return NULL;
}

static const sp_arg *find_rest(const sp_arg *const *tables)
{
    for (; *tables; tables++)
        for (const sp_arg *row = *tables; row->kind != SP_ARG_END; row++)
            if (row->kind == SP_ARG_REST) return row;
    return NULL;
}

static bool in_choices(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = choices; *at; at++) {
        size_t n = strcspn(at, "|");
        if (n == length && memcmp(at, word, n) == 0) return true;
        at += n;
        if (!*at) break;
    }
    return false;
}

static bool store(const sp_arg *row, const char *value, char *error, size_t size)
{
    int64_t number;
    switch (row->kind) {
    case SP_ARG_FLAG: *(bool *)row->target = true; return true;
    case SP_ARG_INT:
        if (!sp_parse_int(value, &number) ||
            ((row->min || row->max) && (number < row->min || number > row->max))) {
            if (row->min || row->max)
                snprintf(error, size, "--%s %s: expected a whole number from %lld to %lld",
                         row->name, value, (long long)row->min, (long long)row->max);
            else
                snprintf(error, size, "--%s %s: expected a whole number", row->name, value);
            return false;
        }
        *(int64_t *)row->target = number;
        return true;
    case SP_ARG_NUMBER:
        if (sp_parse_number(value, row->target)) return true;
        snprintf(error, size, "--%s %s: expected a number", row->name, value);
        return false;
    case SP_ARG_CHOICE:
        if (!in_choices(row->choices, value)) {
            snprintf(error, size, "--%s %s: expected one of %s", row->name, value, row->choices);
            return false;
        }
        *(const char **)row->target = value;
        return true;
    case SP_ARG_LIST:
        if (sp_strings_add(row->target, value)) return true;
        snprintf(error, size, "no memory for --%s", row->name);
        return false;
    default: *(const char **)row->target = value; return true;
    }
}

static void unknown(const char *argument, const sp_arg *const *tables, char *error, size_t size)
{
    const char *words[128];
    size_t count = 0;
    for (; *tables; tables++)
        for (const sp_arg *row = *tables; row->kind != SP_ARG_END && count < 127; row++)
            if (row->name) words[count++] = row->name;
    words[count] = NULL;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, "="), argument);
    const char *near = sp_args_nearest(name + strspn(name, "-"), words);
    if (near)
        snprintf(error, size, "unknown option %s; the nearest is --%s", name, near);
    else
        snprintf(error, size, "unknown option %s; --help lists them", name);
}

static bool check_rest(const sp_arg *row, char *error, size_t size)
{
    if (!row) return true;
    const sp_strings *list = row->target;
    if ((int64_t)list->count < row->min) {
        snprintf(error, size, "%s is missing", row->value);
        return false;
    }
    if (row->max && (int64_t)list->count > row->max) {
        snprintf(error, size, "unexpected argument %s", list->items[row->max]);
        return false;
    }
    return true;
}

static bool add_word(const sp_arg *rest, const char *word, char *error, size_t size)
{
    if (rest && sp_strings_add(rest->target, word)) return true;
    snprintf(error, size, "unexpected argument %s", word);
    return false;
}

/* Parses the option at argv[i]; the number of words it took, 0 on a fault. */
static int parse_option(const sp_arg *row, int i, int argc, char **argv, char *error, size_t size)
{
    const char *argument = argv[i], *value = NULL;
    bool is_long = argument[1] == '-';
    int used = 1;
    if (is_long && strchr(argument, '='))
        value = strchr(argument, '=') + 1;
    else if (!is_long && argument[2])
        value = argument + 2;
    if (row->kind == SP_ARG_FLAG && value) {
        snprintf(error, size, "--%s takes no value", row->name);
        return 0;
    }
    if (row->kind == SP_ARG_OPTIONAL && !value) value = "";
    if (row->kind != SP_ARG_FLAG && !value) {
        if (i + 1 >= argc) {
            snprintf(error, size, "--%s needs a value: %s", row->name,
                     row->choices ? row->choices : row->value);
            return 0;
        }
        value = argv[i + 1];
        used = 2;
    }
    return store(row, value, error, size) ? used : 0;
}

bool sp_args_parse(const sp_arg *const *tables, int argc, char **argv, char *error, size_t size)
{
    const sp_arg *rest = find_rest(tables);
    bool only_words = false;
    for (int i = 0; i < argc;) {
        if (only_words || argv[i][0] != '-' || !argv[i][1]) {
            if (!add_word(rest, argv[i], error, size)) return false;
            i++;
        } else if (strcmp(argv[i], "--") == 0) {
            only_words = true;
            i++;
        } else {
            const sp_arg *row = find(tables, argv[i]);
            if (!row) {
                unknown(argv[i], tables, error, size);
                return false;
            }
            int used = parse_option(row, i, argc, argv, error, size);
            if (!used) return false;
            i += used;
        }
    }
    return check_rest(rest, error, size);
}

void sp_args_help(FILE *file, const sp_arg *table)
{
    for (; table->kind != SP_ARG_END; table++) {
        char left[80];
        if (table->kind == SP_ARG_REST) {
            snprintf(left, sizeof left, "%s", table->value);
        } else {
            char letter[8] = "    ";
            if (table->letter) snprintf(letter, sizeof letter, "-%c, ", table->letter);
            const char *value = table->choices ? table->choices : table->value;
            const char *open = "", *shut = "";
            if (table->kind == SP_ARG_OPTIONAL)
                open = "[=", shut = "]";
            else if (table->kind != SP_ARG_FLAG)
                open = " ";
            snprintf(left, sizeof left, "%s--%s%s%s%s", letter, table->name, open,
                     table->kind == SP_ARG_FLAG ? "" : value, shut);
        }
        if (strlen(left) > 28)
            fprintf(file, "  %s\n%32s%s\n", left, "", table->help);
        else
            fprintf(file, "  %-30s%s\n", left, table->help);
    }
}
