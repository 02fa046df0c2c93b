#include "graph/names.h"

#include <string.h>

/* FNV-1a. It starts from the table's address, so that a file can't be made whose names all collide.
 */
static size_t hash(const sp_names *names, const char *s)
{
    uint64_t h = 0xcbf29ce484222325u ^ (uintptr_t)names->items;
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    return (size_t)(h ^ h >> 29);
}

void sp_names_init(sp_names *names, const sparoa_allocator *alloc)
{
    *names = (sp_names){.alloc = *alloc};
}

void sp_names_free(sp_names *names)
{
    sp_free(&names->alloc, names->items, names->capacity * sizeof *names->items);
    names->items = NULL;
    names->count = names->capacity = 0;
}

static struct sp_name_entry *slot(const sp_names *names, const char *name)
{
    size_t mask = names->capacity - 1, i = hash(names, name) & mask;
    while (names->items[i].name && strcmp(names->items[i].name, name) != 0) i = (i + 1) & mask;
    return &names->items[i];
}

bool sp_names_find(const sp_names *names, const char *name, sp_id *id)
{
    if (names->capacity == 0) return false;
    const struct sp_name_entry *e = slot(names, name);
    if (e->name && id) *id = e->id;
    return e->name != NULL;
}

static bool grow(sp_names *names)
{
    sp_names bigger = {.alloc = names->alloc, .count = names->count};
    bigger.capacity = names->capacity ? names->capacity * 2 : 32;
    bigger.items = sp_calloc(&names->alloc, bigger.capacity, sizeof *bigger.items);
    if (!bigger.items) return false;
    for (size_t i = 0; i < names->capacity; i++)
        if (names->items[i].name) *slot(&bigger, names->items[i].name) = names->items[i];
    sp_names_free(names);
    *names = bigger;
    return true;
}

bool sp_names_add(sp_names *names, const char *name, sp_id id)
{
    if (names->count * 2 >= names->capacity && !grow(names)) return false;
    *slot(names, name) = (struct sp_name_entry){name, id};
    names->count++;
    return true;
}
