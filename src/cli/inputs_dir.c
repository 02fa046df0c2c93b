#include "cli/inputs_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static bool is_input(const char *name)
{
    static const char *const endings[] = {".npy", ".pb", ".png", ".jpg", ".jpeg"};
    size_t n = strlen(name);
    if (strncmp(name, "output_", 7) == 0) return false; /* of ONNX's test folders */
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t k = strlen(endings[i]);
        if (n > k && strcasecmp(name + n - k, endings[i]) == 0) return true;
    }
    return false;
}

static bool add_owned(sp_strings *list, const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s", folder, name);
    bool good = path && sp_strings_add(list, path);
    if (!good) free(path);
    return good;
}

static sp_strings *add_set(sp_inputs_dir *dir)
{
    sp_strings *more = realloc(dir->sets, (dir->count + 1) * sizeof *more);
    if (!more) return NULL;
    dir->sets = more;
    more[dir->count] = (sp_strings){0};
    return &more[dir->count++];
}

/* The files of a subfolder as one set; without any it is none. */
static bool add_folder(sp_inputs_dir *dir, const char *folder, const char *name)
{
    char path[4096];
    struct dirent **names;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int count = scandir(path, &names, NULL, versionsort);
    sp_strings *set = NULL;
    bool good = true;
    for (int i = 0; i < count; i++) {
        if (good && is_input(names[i]->d_name)) {
            if (!set) set = add_set(dir);
            good = set && add_owned(set, path, names[i]->d_name);
        }
        free(names[i]);
    }
    if (count >= 0) free(names);
    return good;
}

static bool add_entry(sp_inputs_dir *dir, const char *folder, const char *name)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (name[0] == '.' || stat(path, &st)) return true;
    if (S_ISDIR(st.st_mode)) return add_folder(dir, folder, name);
    if (!is_input(name)) return true;
    sp_strings *set = add_set(dir);
    return set && add_owned(set, folder, name);
}

int sp_inputs_dir_open(const sp_cli *cli, const char *folder, sp_inputs_dir *dir)
{
    struct dirent **names;
    int count = scandir(folder, &names, NULL, versionsort);
    bool good = true;
    *dir = (sp_inputs_dir){0};
    if (count < 0)
        return sp_cli_fail(cli, SP_EXIT_FAIL, "cannot read %s: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        good = good && add_entry(dir, folder, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    if (!good) return sp_cli_fail(cli, SP_EXIT_FAIL, "no memory");
    if (!dir->count)
        return sp_cli_fail(cli, SP_EXIT_FAIL, "%s holds no .npy, .pb, PNG or JPEG file", folder);
    return -1;
}

void sp_inputs_dir_close(sp_inputs_dir *dir)
{
    for (size_t i = 0; i < dir->count; i++) {
        for (size_t k = 0; k < dir->sets[i].count; k++) free((char *)dir->sets[i].items[k]);
        sp_strings_free(&dir->sets[i]);
    }
    free(dir->sets);
    *dir = (sp_inputs_dir){0};
}

static bool same_shapes(const sp_inputs *a, const sp_inputs *b)
{
    for (size_t i = 0; i < a->count; i++)
        if (a->items[i].rank != b->items[i].rank ||
            memcmp(a->items[i].dims, b->items[i].dims,
                   (size_t)a->items[i].rank * sizeof a->items[i].dims[0]))
            return false;
    return true;
}

int sp_inputs_dir_use(const sp_cli *cli, const sp_inputs_dir *dir, size_t index,
                      const sp_feed *feed, sp_job *job)
{
    sp_feed with = *feed;
    sp_inputs made = {0};
    sparoa_error err = {0};
    const sp_strings *set = &dir->sets[index];
    with.inputs = *set;
    if (sp_feed_build(&with, job->runtime, job->model, &made, &err))
        return sp_cli_error(cli, set->items[0], &err);
    if (job->inputs.count && !same_shapes(&made, &job->inputs)) {
        sp_inputs_free(&made);
        return sp_cli_fail(cli, SP_EXIT_FAIL, "%s has another shape than the inputs before it",
                           set->items[0]);
    }
    sp_inputs_free(&job->inputs);
    job->inputs = made;
    return -1;
}
