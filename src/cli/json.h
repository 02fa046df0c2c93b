/*
 * json.h - writes JSON to a stream: escaping, commas, indentation; NaN and infinities become null.
 *
 * Inside an object every value is preceded by its key: sp_json_int(&j, "count", 3). Inside an array
 * and at the top the key is NULL.
 */
#ifndef SP_CLI_JSON_H
#define SP_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SP_JSON_DEPTH 32

typedef struct sp_json {
    FILE *file;
    int depth;
    bool used[SP_JSON_DEPTH]; /* the level has an entry already */
    bool flat[SP_JSON_DEPTH]; /* the level is written on one line */
} sp_json;

sp_json sp_json_to(FILE *file);
void sp_json_object(sp_json *json, const char *key);
void sp_json_array(sp_json *json, const char *key);
void sp_json_flat_object(sp_json *json, const char *key); /* these two go on one line */
void sp_json_flat_array(sp_json *json, const char *key);
void sp_json_end_object(sp_json *json);
void sp_json_end_array(sp_json *json);
void sp_json_string(sp_json *json, const char *key, const char *text); /* NULL becomes null */
void sp_json_int(sp_json *json, const char *key, int64_t value);
void sp_json_number(sp_json *json, const char *key, double value);
void sp_json_bool(sp_json *json, const char *key, bool value);
void sp_json_null(sp_json *json, const char *key);

/* True if the text is one well-formed JSON value (RFC 8259) and nothing else. For the tests. */
bool sp_json_valid(const char *text);

#endif
