#include "cli/valuemap.h"

#include <stdlib.h>
#include <string.h>

bool sp_tensor_copy(const sparoa_tensor *tensor, const char *layout, sparoa_tensor *copy)
{
    size_t bytes = sparoa_tensor_bytes(tensor), size = sparoa_dtype_size(tensor->dtype);
    char *data = malloc(bytes + 1);
    if (!data) return false;
    *copy = *tensor;
    copy->data = data;
    int r = tensor->rank;
    if (!layout || strcmp(layout, "NHWC") || r < 3) {
        if (bytes) memcpy(data, tensor->data, bytes);
        return true;
    }
    int64_t batch = tensor->dims[0], channels = tensor->dims[r - 1], area = 1;
    copy->dims[1] = channels;
    for (int i = 1; i < r - 1; i++) {
        copy->dims[i + 1] = tensor->dims[i];
        area *= tensor->dims[i];
    }
    const char *from = tensor->data;
    for (int64_t n = 0; n < batch; n++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < area; i++, data += size)
                memcpy(data, from + (size_t)((n * area + i) * channels + c) * size, size);
    return true;
}

static size_t hash(const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    return (size_t)(h ^ h >> 29);
}

/* The slot of a name: where it is, or the free one where it belongs. */
static size_t slot_of(const sp_value_map *map, const char *name)
{
    size_t at = hash(name) & (map->slot_count - 1);
    while (map->slots[at] && strcmp(map->items[map->slots[at] - 1].name, name))
        at = (at + 1) & (map->slot_count - 1);
    return at;
}

static bool grow(sp_value_map *map)
{
    size_t room = map->room ? 2 * map->room : 128;
    sp_kept *items = realloc(map->items, room * sizeof *items);
    if (items) map->items = items;
    size_t *slots = items ? calloc(2 * room, sizeof *slots) : NULL;
    if (!slots) return false;
    free(map->slots);
    map->slots = slots;
    map->slot_count = 2 * room;
    map->room = room;
    for (size_t i = 0; i < map->count; i++) slots[slot_of(map, map->items[i].name)] = i + 1;
    return true;
}

void sp_value_map_put(sp_value_map *map, const char *node, const char *name,
                      const sparoa_tensor *tensor, const char *layout)
{
    sp_kept kept = {0};
    if (!name || !*name || (map->count == map->room && !grow(map)) ||
        !sp_tensor_copy(tensor, layout, &kept.tensor)) {
        map->failed = map->failed || (name && *name);
        return;
    }
    size_t at = slot_of(map, name);
    if (map->slots[at]) {
        sp_kept *old = &map->items[map->slots[at] - 1];
        free(old->tensor.data);
        old->tensor = kept.tensor;
        return;
    }
    kept.name = strdup(name);
    kept.node = strdup(node ? node : "");
    if (!kept.name || !kept.node) {
        free(kept.name);
        free(kept.node);
        free(kept.tensor.data);
        map->failed = true;
        return;
    }
    map->items[map->count++] = kept;
    map->slots[at] = map->count;
}

const sp_kept *sp_value_map_get(const sp_value_map *map, const char *name)
{
    if (!map->slot_count || !name) return NULL;
    size_t index = map->slots[slot_of(map, name)];
    return index ? &map->items[index - 1] : NULL;
}

void sp_value_map_free(sp_value_map *map)
{
    for (size_t i = 0; i < map->count; i++) {
        free(map->items[i].name);
        free(map->items[i].node);
        free(map->items[i].tensor.data);
    }
    free(map->items);
    free(map->slots);
    *map = (sp_value_map){0};
}
