#include "cli/testset.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 16, MAX_TESTS = 1000000 };

char *sp_text(const char *format, ...)
{
    va_list list;
    char *text = NULL;
    va_start(list, format);
    int length = vasprintf(&text, format, list);
    va_end(list);
    return length < 0 ? NULL : text;
}

void sp_cli_file_name(char *out, size_t size, const char *name)
{
    size_t n = 0;
    for (; name[n] && n + 1 < size; n++) {
        unsigned char c = (unsigned char)name[n];
        out[n] = isalnum(c) || c == '-' || c == '_' || (c == '.' && n) ? (char)c : '_';
    }
    out[n] = 0;
}

static int by_version(const void *a, const void *b)
{
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

bool sp_files_list(sp_files *names, const char *folder, const char *pattern)
{
    *names = (sp_files){0};
    DIR *dir = opendir(folder);
    if (!dir) return false;
    size_t room = 0;
    bool good = true;
    for (struct dirent *entry; good && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || fnmatch(pattern, entry->d_name, 0)) continue;
        if (names->count == room) {
            room = room ? 2 * room : 16;
            char **items = realloc(names->items, room * sizeof *items);
            if (!items) {
                good = false;
                break;
            }
            names->items = items;
        }
        good = (names->items[names->count] = strdup(entry->d_name)) != NULL;
        if (good) names->count++;
    }
    closedir(dir);
    if (!good)
        sp_files_free(names);
    else if (names->count)
        qsort(names->items, names->count, sizeof *names->items, by_version);
    return good;
}

void sp_files_free(sp_files *names)
{
    for (size_t i = 0; i < names->count; i++) free(names->items[i]);
    free(names->items);
    *names = (sp_files){0};
}

static bool is_kind(const char *path, mode_t kind)
{
    struct stat info;
    return stat(path, &info) == 0 && (info.st_mode & S_IFMT) == kind;
}

/* Takes over the four strings. */
static bool add_test(sp_testset *set, char *path, char *data, char *output, char *folder)
{
    bool full = set->count >= MAX_TESTS;
    sp_test *items = NULL;
    if (path && data && folder && !full)
        items = realloc(set->items, (set->count + 1) * sizeof *items);
    if (!items) {
        free(path);
        free(data);
        free(output);
        free(folder);
        return false;
    }
    set->items = items;
    items[set->count++] =
        (sp_test){.path = path, .data = data, .output = output, .folder = folder, .selected = true};
    return true;
}

static bool add_light(sp_testset *set, const char *folder, const char *file, const char *inputs)
{
    int length = (int)strlen(file) - 5; /* without .onnx */
    char *output = sp_text("%s/%.*s_output_0.pb", folder, length, file);
    if (!output) return false;
    if (!is_kind(output, S_IFREG)) {
        free(output);
        return true;
    }
    char *data = inputs ? sp_text("%s/%.*s", inputs, length, file)
                        : sp_text("%s-inputs/%.*s", folder, length, file);
    return add_test(set, sp_text("%s/%s", folder, file), data, output,
                    sp_text("%s/%.*s", folder, length, file));
}

/* The model of a test folder: model.onnx, or the only .onnx file beside test_data_set_* folders. */
static const char *model_of(const sp_files *names)
{
    const char *only = NULL;
    int models = 0, sets = 0;
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->items[i];
        if (strcmp(name, "model.onnx") == 0) return name;
        if (!fnmatch("*.onnx", name, 0)) {
            only = name;
            models++;
        }
        if (!strncmp(name, "test_data_set_", 14)) sets++;
    }
    return models == 1 && sets > 0 ? only : NULL;
}

static bool walk(sp_testset *set, const char *folder, const char *inputs, int depth)
{
    sp_files names;
    if (!sp_files_list(&names, folder, "*")) return depth > 0;
    bool good = true;
    const char *model = model_of(&names);
    if (model) {
        good = add_test(set, sp_text("%s/%s", folder, model), strdup(folder), NULL, strdup(folder));
    } else {
        for (size_t i = 0; i < names.count && good; i++) {
            char *path = sp_text("%s/%s", folder, names.items[i]);
            if (!path)
                good = false;
            else if (is_kind(path, S_IFDIR))
                good = depth >= MAX_DEPTH || walk(set, path, inputs, depth + 1);
            else if (!fnmatch("*.onnx", names.items[i], 0))
                good = add_light(set, folder, names.items[i], inputs);
            free(path);
        }
    }
    sp_files_free(&names);
    return good;
}

/* Shortens root until it is the folder or one above it. */
static void common_root(char *root, const char *folder)
{
    for (;;) {
        size_t n = strlen(root);
        if (strncmp(root, folder, n) == 0 && (folder[n] == '/' || !folder[n] || n == 1)) return;
        char *slash = strrchr(root, '/');
        if (!slash) return;
        slash[slash == root ? 1 : 0] = 0;
    }
}

bool sp_testset_find(sp_testset *set, const sp_strings *folders, const char *inputs, char *error,
                     size_t size)
{
    *set = (sp_testset){0};
    for (size_t i = 0; i < folders->count; i++) {
        char folder[PATH_MAX];
        if (!realpath(folders->items[i], folder) || !is_kind(folder, S_IFDIR)) {
            snprintf(error, size, "%s: %s", folders->items[i],
                     errno ? strerror(errno) : "not a folder");
            return false;
        }
        if (!set->root) set->root = strdup(folder);
        if (!set->root || !walk(set, folder, inputs, 0)) {
            snprintf(error, size, "%s: cannot be read, or no memory", folders->items[i]);
            return false;
        }
        common_root(set->root, folder);
    }
    /* A folder that is itself the only test is named by its last part. */
    if (set->count == 1 && strcmp(set->items[0].folder, set->root) == 0) {
        char *slash = strrchr(set->root, '/');
        if (slash) slash[slash == set->root ? 1 : 0] = 0;
    }
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->items[i].folder + strlen(set->root);
        set->items[i].name = name + (*name == '/');
    }
    return true;
}

void sp_testset_free(sp_testset *set)
{
    for (size_t i = 0; i < set->count; i++) {
        free(set->items[i].path);
        free(set->items[i].data);
        free(set->items[i].output);
        free(set->items[i].folder);
    }
    free(set->items);
    free(set->root);
    *set = (sp_testset){0};
}

/* ---- Manifest ---- */

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t n = strlen(text);
    while (n && strchr(" \t\r\n", text[n - 1])) text[--n] = 0;
    return text;
}

static bool add_row(sp_manifest *manifest, sp_manifest_kind kind, const char *name,
                    const char *reason)
{
    sp_manifest_row *rows = realloc(manifest->rows, (manifest->count + 1) * sizeof *rows);
    if (!rows) return false;
    manifest->rows = rows;
    sp_manifest_row row = {kind, strdup(name), strdup(reason), false};
    if (!row.name || !row.reason) {
        free(row.name);
        free(row.reason);
        return false;
    }
    rows[manifest->count++] = row;
    return true;
}

static bool read_row(sp_manifest *manifest, char *text)
{
    text = trim(text);
    if (!*text || *text == '#') return true;
    bool quant = strncmp(text, "quant ", 6) == 0;
    if (!quant && strncmp(text, "skip ", 5) != 0)
        return add_row(manifest, SP_MANIFEST_PASS, text, "");
    char *name = trim(text + (quant ? 6 : 5)), *colon = strstr(name, ": ");
    const char *reason = quant ? "1" : "listed in the manifest";
    if (colon) {
        *colon = 0;
        reason = trim(colon + 2);
    }
    return add_row(manifest, quant ? SP_MANIFEST_QUANT : SP_MANIFEST_SKIP, trim(name), reason);
}

bool sp_manifest_read(sp_manifest *manifest, const char *path, char *error, size_t size)
{
    *manifest = (sp_manifest){0};
    FILE *file = fopen(path, "r");
    if (!file) {
        snprintf(error, size, "%s: %s", path, strerror(errno));
        return false;
    }
    char *text = NULL;
    size_t room = 0;
    bool good = true;
    while (good && getline(&text, &room, file) >= 0) good = read_row(manifest, text);
    free(text);
    good = !ferror(file) && good;
    fclose(file);
    if (!good) snprintf(error, size, "%s: reading failed", path);
    return good;
}

static int by_name(const void *key, const void *item)
{
    return strcmp(key, (*(sp_test *const *)item)->name);
}

static int tests_by_name(const void *a, const void *b)
{
    return strcmp((*(sp_test *const *)a)->name, (*(sp_test *const *)b)->name);
}

void sp_manifest_apply(sp_manifest *manifest, sp_testset *set)
{
    sp_test **sorted = malloc((set->count + 1) * sizeof *sorted);
    if (!sorted) return;
    for (size_t i = 0; i < set->count; i++) sorted[i] = &set->items[i];
    qsort(sorted, set->count, sizeof *sorted, tests_by_name);
    for (size_t i = 0; i < manifest->count; i++) {
        sp_manifest_row *row = &manifest->rows[i];
        sp_test **found = bsearch(row->name, sorted, set->count, sizeof *sorted, by_name);
        if (!found) continue;
        row->found = true;
        if (row->kind == SP_MANIFEST_PASS)
            (*found)->listed = true;
        else if (row->kind == SP_MANIFEST_SKIP)
            (*found)->skip = row->reason;
        else
            (*found)->quant_steps = atof(row->reason);
    }
    free(sorted);
}

void sp_manifest_free(sp_manifest *manifest)
{
    for (size_t i = 0; i < manifest->count; i++) {
        free(manifest->rows[i].name);
        free(manifest->rows[i].reason);
    }
    free(manifest->rows);
    *manifest = (sp_manifest){0};
}

/* ---- Index ---- */

/* Splits a line at tabs in place; the number of fields. */
static int split(char *text, char **fields, int most)
{
    int count = 0;
    text[strcspn(text, "\r\n")] = 0;
    for (char *at = text; at && count < most;) {
        fields[count++] = at;
        at = strchr(at, '\t');
        if (at) *at++ = 0;
    }
    return count;
}

static int column(char **fields, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(fields[i], name) == 0) return i;
    return -1;
}

static const char *last_two(const char *path)
{
    int slashes = 0;
    for (const char *at = path + strlen(path); at > path; at--)
        if (at[-1] == '/' && ++slashes == 2) return at;
    return path;
}

static int texts_by_value(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The rows marked "yes" as sorted "suite/name". */
static bool read_index(FILE *file, sp_files *names)
{
    char *text = NULL, *fields[64];
    size_t room = 0;
    int suite = -1, name = -1, core = -1;
    bool good = true;
    for (bool first = true; good && getline(&text, &room, file) >= 0; first = false) {
        int count = split(text, fields, 64);
        if (first) {
            suite = column(fields, count, "suite");
            name = column(fields, count, "name");
            core = column(fields, count, "core_float_runtime");
            good = suite >= 0 && name >= 0 && core >= 0;
        } else if (count > suite && count > name && count > core && !strcmp(fields[core], "yes")) {
            char **items = realloc(names->items, (names->count + 1) * sizeof *items);
            good = items != NULL;
            if (!good) break;
            names->items = items;
            items[names->count] = sp_text("%s/%s", fields[suite], fields[name]);
            good = items[names->count] != NULL;
            if (good) names->count++;
        }
    }
    free(text);
    if (good && names->count)
        qsort(names->items, names->count, sizeof *names->items, texts_by_value);
    return good && suite >= 0;
}

bool sp_index_apply(const char *path, sp_testset *set, char *error, size_t size)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        snprintf(error, size, "%s: %s", path, strerror(errno));
        return false;
    }
    sp_files core = {0};
    bool good = read_index(file, &core);
    fclose(file);
    if (!good)
        snprintf(error, size,
                 "%s: expected a TSV file with the columns suite, name, core_float_runtime", path);
    for (size_t i = 0; i < set->count && good; i++) {
        const char *key = last_two(set->items[i].folder);
        if (!core.count ||
            !bsearch(&key, core.items, core.count, sizeof *core.items, texts_by_value))
            set->items[i].selected = false;
    }
    sp_files_free(&core);
    return good;
}
