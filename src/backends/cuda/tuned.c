/* Choices that were measured, kept by what was asked for, and in a file where the option cache
 * names one. The file is text: a first line with device, driver and libraries, which must be the
 * same for the rest to count, then one line for each choice. */
#include "backends/cuda/cuda.h"

#define KEY_SIZE 160

typedef struct sp_cuda_tuned {
    struct sp_cuda_tuned *next;
    char key[KEY_SIZE];
    sp_cuda_choice choice;
} sp_cuda_tuned;

static void identity(const sparoa_dev *dev, char *text, size_t size)
{
    int driver = 0, runtime = 0, sparse = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (dev->sparse) dev->libs.sparse_version(dev->sparse, &sparse);
    snprintf(text, size,
             "sparoa cuda 3; %.80s; driver %d; runtime %d; cudnn %zu; cublaslt %zu; cusparse %d\n",
             dev->prop.name, driver, runtime, dev->dnn ? dev->libs.dnn_version() : (size_t)0,
             dev->lt ? dev->libs.lt_version() : (size_t)0, sparse);
}

static sp_cuda_tuned *find(sparoa_dev *dev, const char *key)
{
    for (sp_cuda_tuned *t = dev->tuned; t; t = t->next)
        if (strcmp(t->key, key) == 0) return t;
    return NULL;
}

static void keep(sparoa_dev *dev, const char *key, const sp_cuda_choice *choice)
{
    sp_cuda_tuned *t = find(dev, key);
    if (!t && (t = sp_cuda_host_alloc(dev, sizeof *t))) {
        snprintf(t->key, sizeof t->key, "%.*s", KEY_SIZE - 1, key);
        t->next = dev->tuned;
        dev->tuned = t;
    }
    if (t) t->choice = *choice;
}

bool sp_cuda_tuned_find(sparoa_dev *dev, const char *key, sp_cuda_choice *choice)
{
    pthread_mutex_lock(&dev->lock);
    const sp_cuda_tuned *t = find(dev, key);
    if (t) *choice = t->choice;
    pthread_mutex_unlock(&dev->lock);
    return t != NULL;
}

void sp_cuda_tuned_keep(sparoa_dev *dev, const char *key, const sp_cuda_choice *choice)
{
    if (strlen(key) >= KEY_SIZE) return;
    pthread_mutex_lock(&dev->lock);
    keep(dev, key, choice);
    dev->tuned_changed = true;
    pthread_mutex_unlock(&dev->lock);
}

void sp_cuda_tuned_load(sparoa_dev *dev)
{
    char own[256], line[256];
    FILE *f = dev->tuned_path[0] ? fopen(dev->tuned_path, "r") : NULL;
    if (!f) return;
    identity(dev, own, sizeof own);
    if (fgets(line, sizeof line, f) && strcmp(line, own) == 0) {
        while (fgets(line, sizeof line, f)) {
            sp_cuda_choice c;
            char *tab = strchr(line, '\t');
            if (!tab || tab - line >= KEY_SIZE ||
                sscanf(tab, "%d %d %d %d", &c.kind, &c.index, &c.tile, &c.splits) != 4)
                continue;
            *tab = '\0';
            keep(dev, line, &c);
        }
    }
    fclose(f);
}

void sp_cuda_tuned_save(sparoa_dev *dev)
{
    char own[256];
    FILE *f = dev->tuned_path[0] && dev->tuned_changed ? fopen(dev->tuned_path, "w") : NULL;
    identity(dev, own, sizeof own);
    if (f) fputs(own, f);
    while (dev->tuned) {
        sp_cuda_tuned *t = dev->tuned;
        const sp_cuda_choice *c = &t->choice;
        if (f) fprintf(f, "%s\t%d %d %d %d\n", t->key, c->kind, c->index, c->tile, c->splits);
        dev->tuned = t->next;
        sp_cuda_host_free(dev, t, sizeof *t);
    }
    if (f) fclose(f);
}
