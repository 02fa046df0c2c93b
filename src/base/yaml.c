/* YAML by libyaml's events, built into a small tree of our own. */
#include "base/yaml.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "sparoa_backend.h"

#define MAX_NODES 4000000u
#define MAX_DEPTH 12
#define MAX_KEYS 256u /* of a map: they are compared with each other */

struct sp_yaml {
    sparoa_allocator alloc;
    sp_arena arena;
    sp_yaml_node *root;
};

typedef struct builder {
    sp_yaml *yaml;
    const char *what;
    sparoa_error *err;
    sp_yaml_node *stack[MAX_DEPTH], *last[MAX_DEPTH];
    const char *key; /* waits for its value */
    int depth;
    uint32_t nodes;
    bool done;
} builder;

static sparoa_status fault(builder *b, const yaml_event_t *event, const char *message)
{
    return sparoa_fail(b->err, SPAROA_MALFORMED, NULL, "%.120s:%zu: %s", b->what,
                       event->start_mark.line + 1, message);
}

static sparoa_status check_key(builder *b, const yaml_event_t *event, const sp_yaml_node *map,
                               const char *key)
{
    if (map->count >= MAX_KEYS) return fault(b, event, "too many keys in one map");
    for (const sp_yaml_node *n = map->first; n; n = n->next)
        if (strcmp(n->key, key) == 0) {
            char message[160];
            snprintf(message, sizeof message, "'%.100s' is given twice", key);
            return fault(b, event, message);
        }
    return SPAROA_OK;
}

/* Hangs a new node under the open list or map. */
static sparoa_status add_node(builder *b, const yaml_event_t *event, sp_yaml_kind kind,
                              const char *text)
{
    if (b->done) return fault(b, event, "a second document");
    if (++b->nodes > MAX_NODES) return fault(b, event, "too many values");
    sp_yaml_node *n = sp_arena_alloc(&b->yaml->arena, sizeof *n);
    if (!n) return sp_no_memory(&b->yaml->alloc, sizeof *n, b->err);
    n->kind = kind;
    n->line = (uint32_t)event->start_mark.line + 1;
    n->text = text;
    n->key = b->key;
    b->key = NULL;
    if (b->depth == 0) {
        b->yaml->root = n;
        b->done = kind == SP_YAML_TEXT;
    } else {
        sp_yaml_node *parent = b->stack[b->depth - 1], *last = b->last[b->depth - 1];
        n->parent = parent;
        n->index = parent->count++;
        if (last)
            last->next = n;
        else
            parent->first = n;
        b->last[b->depth - 1] = n;
    }
    if (kind == SP_YAML_TEXT) return SPAROA_OK;
    if (b->depth == MAX_DEPTH) return fault(b, event, "nested too deeply");
    b->stack[b->depth] = n;
    b->last[b->depth++] = NULL;
    return SPAROA_OK;
}

static sparoa_status add_text(builder *b, const yaml_event_t *event)
{
    const char *bytes = (const char *)event->data.scalar.value;
    size_t size = event->data.scalar.length;
    if (memchr(bytes, 0, size)) return fault(b, event, "a zero byte in a text");
    if (event->data.scalar.anchor) return fault(b, event, "anchors are not part of this format");
    if (event->data.scalar.tag) return fault(b, event, "tags are not part of this format");
    char *text = sp_arena_strndup(&b->yaml->arena, bytes, size);
    if (!text) return sp_no_memory(&b->yaml->alloc, size, b->err);
    sp_yaml_node *open = b->depth ? b->stack[b->depth - 1] : NULL;
    if (open && open->kind == SP_YAML_MAP && !b->key) {
        sparoa_status status = check_key(b, event, open, text);
        b->key = text;
        return status;
    }
    return add_node(b, event, SP_YAML_TEXT, text);
}

static sparoa_status open_node(builder *b, const yaml_event_t *event, sp_yaml_kind kind)
{
    bool map = kind == SP_YAML_MAP;
    if (map ? event->data.mapping_start.anchor != NULL : event->data.sequence_start.anchor != NULL)
        return fault(b, event, "anchors are not part of this format");
    if (map ? event->data.mapping_start.tag != NULL : event->data.sequence_start.tag != NULL)
        return fault(b, event, "tags are not part of this format");
    sp_yaml_node *open = b->depth ? b->stack[b->depth - 1] : NULL;
    if (open && open->kind == SP_YAML_MAP && !b->key) return fault(b, event, "a key is not a text");
    return add_node(b, event, kind, NULL);
}

static sparoa_status take(builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT: return fault(b, event, "aliases are not part of this format");
    case YAML_SCALAR_EVENT: return add_text(b, event);
    case YAML_SEQUENCE_START_EVENT: return open_node(b, event, SP_YAML_LIST);
    case YAML_MAPPING_START_EVENT: return open_node(b, event, SP_YAML_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        b->done = b->depth == 0;
        return SPAROA_OK;
    default: return SPAROA_OK;
    }
}

static sparoa_status build(builder *b, yaml_parser_t *parser)
{
    for (bool end = false; !end;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            if (parser->error == YAML_MEMORY_ERROR) return sp_no_memory(&b->yaml->alloc, 0, b->err);
            return sparoa_fail(b->err, SPAROA_MALFORMED, NULL, "%.120s:%zu: not YAML: %.120s",
                               b->what, parser->problem_mark.line + 1,
                               parser->problem ? parser->problem : "unknown fault");
        }
        sparoa_status status = take(b, &event);
        end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (status != SPAROA_OK) return status;
    }
    if (!b->yaml->root)
        return sparoa_fail(b->err, SPAROA_MALFORMED, NULL, "%.120s: the file is empty", b->what);
    return SPAROA_OK;
}

sparoa_status sp_yaml_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                            size_t size, sp_yaml **yaml, sparoa_error *err)
{
    if (size > SP_YAML_BYTES)
        return sparoa_fail(err, SPAROA_TOO_LARGE, NULL, "%.120s: %zu bytes, at most %zu are read",
                           what, size, SP_YAML_BYTES);
    sp_yaml *y = sp_calloc(alloc, 1, sizeof *y);
    if (!y) return sp_no_memory(alloc, sizeof *y, err);
    y->alloc = *alloc;
    sp_arena_init(&y->arena, alloc);
    builder b = {.yaml = y, .what = what, .err = err};
    yaml_parser_t parser;
    sparoa_status status;
    if (yaml_parser_initialize(&parser)) {
        yaml_parser_set_input_string(&parser, data, size);
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        status = build(&b, &parser);
        yaml_parser_delete(&parser);
    } else {
        status = sp_no_memory(alloc, sizeof parser, err);
    }
    if (status != SPAROA_OK)
        sp_yaml_destroy(y);
    else
        *yaml = y;
    return status;
}

sparoa_status sp_yaml_load(const sparoa_allocator *alloc, const char *path, sp_yaml **yaml,
                           sparoa_error *err)
{
    char *data;
    size_t size;
    sparoa_status status = sp_file_read(alloc, path, SP_YAML_BYTES, &data, &size, err);
    if (status != SPAROA_OK) return status;
    status = sp_yaml_parse(alloc, sp_file_name(path), data, size, yaml, err);
    sp_free(alloc, data, size + 1);
    return status;
}

void sp_yaml_destroy(sp_yaml *yaml)
{
    if (!yaml) return;
    sparoa_allocator alloc = yaml->alloc;
    sp_arena_destroy(&yaml->arena);
    sp_free(&alloc, yaml, sizeof *yaml);
}

const sp_yaml_node *sp_yaml_root(const sp_yaml *yaml)
{
    return yaml->root;
}
