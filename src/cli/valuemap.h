/*
 * valuemap.h - copies of the values of a run, found by name.
 */
#ifndef SP_CLI_VALUEMAP_H
#define SP_CLI_VALUEMAP_H

#include "sparoa.h"

#include <stdbool.h>

typedef struct sp_kept {
    char *name, *node;
    sparoa_tensor tensor; /* data is owned; always in the model's own layout */
} sp_kept;

typedef struct sp_value_map {
    sp_kept *items;
    size_t count, room;
    size_t *slots; /* open addressing: index + 1 */
    size_t slot_count;
    bool failed; /* there was no memory for a value */
} sp_value_map;

/* Keeps a copy; a name that comes again (the body of a loop) replaces the value. */
void sp_value_map_put(sp_value_map *map, const char *node, const char *name,
                      const sparoa_tensor *tensor, const char *layout);
const sp_kept *sp_value_map_get(const sp_value_map *map, const char *name);
void sp_value_map_free(sp_value_map *map);

/* A copy of the tensor, with the channel moved to the second place if layout is "NHWC". data is
 * from malloc; false if there is no memory. */
bool sp_tensor_copy(const sparoa_tensor *tensor, const char *layout, sparoa_tensor *copy);

#endif
