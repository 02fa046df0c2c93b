/* names.h - a map from names to ids. Names are not copied: they must outlive the map. */
#ifndef SP_GRAPH_NAMES_H
#define SP_GRAPH_NAMES_H

#include "graph/graph.h"

typedef struct sp_names {
    struct sp_name_entry {
        const char *name; /* NULL: free */
        sp_id id;
    } * items;
    size_t count, capacity; /* capacity: 0 or a power of two */
    sparoa_allocator alloc;
} sp_names;

void sp_names_init(sp_names *names, const sparoa_allocator *alloc);
void sp_names_free(sp_names *names);
/* The id of a name in *id; false: not there. id may be NULL. */
bool sp_names_find(const sp_names *names, const char *name, sp_id *id);
/* Adds a name that is not there yet. False: no memory. */
bool sp_names_add(sp_names *names, const char *name, sp_id id);

#endif
