/*
 * yaml.h - reading and writing YAML files of our own formats.
 *
 * A file is read into a tree of mappings, sequences and texts with their lines. The reader is for
 * untrusted files: size, depth and node count are bounded, anchors, aliases, tags, repeated keys
 * and further documents are refused. Fields are fetched through a sp_yaml_reader, which keeps the
 * first fault ("orin.yaml:12: devices[1].peak_gflops: -3 is not within 0..1e+06") and makes all
 * later fetches return their fallback, so that callers check once at the end.
 */
#ifndef SP_BASE_YAML_H
#define SP_BASE_YAML_H

#include "base/mem.h"

typedef enum sp_yaml_kind { SP_YAML_TEXT, SP_YAML_LIST, SP_YAML_MAP } sp_yaml_kind;

typedef struct sp_yaml_node {
    sp_yaml_kind kind;
    uint32_t line;    /* from 1 */
    uint32_t count;   /* entries of a list or map */
    uint32_t index;   /* place in the parent */
    const char *key;  /* in a map; else NULL */
    const char *text; /* SP_YAML_TEXT */
    const struct sp_yaml_node *parent, *first, *next;
} sp_yaml_node;

typedef struct sp_yaml sp_yaml;

#define SP_YAML_BYTES ((size_t)64 << 20) /* larger texts are not read */

/* Reads a document; `what` names it in messages. Fails with MALFORMED, TOO_LARGE or OUT_OF_MEMORY.
 */
sparoa_status sp_yaml_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                            size_t size, sp_yaml **yaml, sparoa_error *err);
/* The same from a file; NOT_FOUND and IO as well. */
sparoa_status sp_yaml_load(const sparoa_allocator *alloc, const char *path, sp_yaml **yaml,
                           sparoa_error *err);
void sp_yaml_destroy(sp_yaml *yaml);
const sp_yaml_node *sp_yaml_root(const sp_yaml *yaml);

typedef struct sp_yaml_reader {
    const char *what;
    sparoa_error *err;
    sparoa_status status; /* of the first fault */
} sp_yaml_reader;

/* Notes a fault at a node (if none was noted before): "what:line: path: message". */
void sp_yaml_fault(sp_yaml_reader *r, const sp_yaml_node *at, sparoa_status status,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The entry of a map or NULL; missing is a fault if `need`. */
const sp_yaml_node *sp_yaml_get(sp_yaml_reader *r, const sp_yaml_node *map, const char *key,
                                bool need);
/* The same, which must be of a kind. */
const sp_yaml_node *sp_yaml_child(sp_yaml_reader *r, const sp_yaml_node *map, const char *key,
                                  sp_yaml_kind kind, bool need);
/* Faults on a key that is not among `keys` ("name|version|devices"). */
void sp_yaml_only(sp_yaml_reader *r, const sp_yaml_node *map, const char *keys);

/* Reads all of a text as a finite number, with a point whatever the locale's decimal mark is. */
bool sp_number_of(const char *text, double *value);

/* A finite number within min..max. */
double sp_yaml_value(sp_yaml_reader *r, const sp_yaml_node *node, double min, double max);
double sp_yaml_number(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, double min,
                      double max); /* a fault if missing */
double sp_yaml_number_or(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, double min,
                         double max, double fallback);
bool sp_yaml_flag_or(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, bool fallback);
/* A text; "" if missing and not needed. Never NULL. Lives as long as the document. */
const char *sp_yaml_string(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, bool need);
/* The first two fields of every format of ours. */
void sp_yaml_header(sp_yaml_reader *r, const sp_yaml_node *root, const char *format,
                    int64_t version);

/* ---- writing ---- */

/* A growing text. After a failed allocation `failed` is set and nothing more is added. */
typedef struct sp_text {
    sparoa_allocator alloc;
    char *data; /* zero-terminated, NULL while empty */
    size_t size, capacity;
    bool failed;
} sp_text;

void sp_text_init(sp_text *text, const sparoa_allocator *alloc);
void sp_text_free(sp_text *text);
void sp_text_add(sp_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A string in double quotes that is valid YAML and JSON. */
void sp_text_quote(sp_text *text, const char *string);
/* The shortest of %.9g: a number read back and written again gives the same characters. */
void sp_text_number(sp_text *text, double value);
/* %.*g: for measured values, whose last digits say nothing. */
void sp_text_digits(sp_text *text, double value, int count);
sparoa_status sp_text_save(const sp_text *text, const char *path, sparoa_error *err);

#endif
