/*
 * args.h - command-line options from a table of rows.
 *
 * A command declares one row for each option and one for the values that follow; parsing, help
 * text, "unknown option, did you mean" and range checks are done here.
 */
#ifndef SP_CLI_ARGS_H
#define SP_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A growing list of strings; the strings are those of argv and not copied. */
typedef struct sp_strings {
    const char **items;
    size_t count;
} sp_strings;

bool sp_strings_add(sp_strings *list, const char *text);
void sp_strings_free(sp_strings *list);

typedef enum sp_arg_kind {
    SP_ARG_FLAG,     /* bool: --name */
    SP_ARG_INT,      /* int64_t: --name N, within min..max */
    SP_ARG_NUMBER,   /* double: --name X, finite */
    SP_ARG_STRING,   /* const char *: --name TEXT */
    SP_ARG_LIST,     /* sp_strings: --name TEXT, may be repeated */
    SP_ARG_OPTIONAL, /* const char *: --name (gives "") or --name=TEXT */
    SP_ARG_CHOICE,   /* const char *: one of the words in `choices`, separated by '|' */
    SP_ARG_REST,     /* sp_strings: words that are not options; name is NULL, `value` names them */
    SP_ARG_END
} sp_arg_kind;

typedef struct sp_arg {
    sp_arg_kind kind;
    char letter;       /* short form, 0: none */
    const char *name;  /* long form without the dashes */
    void *target;      /* variable of the kind's type; holds the default before parsing */
    const char *value; /* name of the value in the help text */
    const char *help;  /* one line */
    int64_t min,
        max; /* of SP_ARG_INT (both 0: any); least and most words of SP_ARG_REST (max 0: any) */
    const char *choices; /* of SP_ARG_CHOICE */
} sp_arg;

/* Parses argv[0..argc-1] (without the command's name) against tables, each ended by SP_ARG_END, the
 * list of them ended by NULL. At most one row of all is SP_ARG_REST. A fault is described in
 * `error` and gives false. */
bool sp_args_parse(const sp_arg *const *tables, int argc, char **argv, char *error,
                   size_t error_size);

/* Prints the rows of a table as help text. */
void sp_args_help(FILE *file, const sp_arg *table);

/* The word of `words` (NULL at the end) nearest to `text` by edit distance, or NULL if none is
 * near. */
const char *sp_args_nearest(const char *text, const char *const *words);

/* Reads all of `text` as a whole number or a finite number. */
bool sp_parse_int(const char *text, int64_t *value);
bool sp_parse_number(const char *text, double *value);

#endif
