/*
 * testset.h - which tests there are: folders in ONNX's layout, the manifest, the index.
 */
#ifndef SP_CLI_TESTSET_H
#define SP_CLI_TESTSET_H

#include "cli/args.h"

typedef struct sp_test {
    char *path;         /* model file */
    char *data;         /* folder that holds test_data_set_* */
    char *output;       /* expected first output of a light model beside the model, or NULL */
    char *folder;       /* absolute path that names the test */
    const char *name;   /* the part of `folder` below the root */
    bool selected;      /* passed the filters */
    bool listed;        /* in the manifest, expected to pass */
    double quant_steps; /* steps that the manifest allows a quantised model; 0: not quantised */
    const char *skip;   /* reason in the manifest, or NULL */
} sp_test;

typedef struct sp_testset {
    sp_test *items;
    size_t count;
    char *root; /* deepest folder that holds all folders named on the command line */
} sp_testset;

/* Finds the tests below the folders. A light model is X.onnx beside X_output_0.pb; its inputs are
 * in inputs/X/test_data_set_*, or, if inputs is NULL, in the folder's sibling with "-inputs" at the
 * end. */
bool sp_testset_find(sp_testset *set, const sp_strings *folders, const char *inputs, char *error,
                     size_t size);
void sp_testset_free(sp_testset *set);

typedef enum sp_manifest_kind {
    SP_MANIFEST_PASS,
    SP_MANIFEST_SKIP,
    SP_MANIFEST_QUANT
} sp_manifest_kind;

typedef struct sp_manifest_row {
    sp_manifest_kind kind;
    char *name;
    char *reason; /* "" unless a skip row */
    bool found;   /* a test has this name */
} sp_manifest_row;

typedef struct sp_manifest {
    sp_manifest_row *rows;
    size_t count;
} sp_manifest;

/* Lines: "NAME", "skip NAME: reason", "quant NAME" or "quant NAME: STEPS",
 * "# comment". */
bool sp_manifest_read(sp_manifest *manifest, const char *path, char *error, size_t size);
void sp_manifest_apply(sp_manifest *manifest, sp_testset *set);
void sp_manifest_free(sp_manifest *manifest);

/* Deselects tests whose row in the index (a TSV file with the columns suite, name and
 * core_float_runtime) is not "yes"; a test's row is found by the last two parts of its path. */
bool sp_index_apply(const char *path, sp_testset *set, char *error, size_t size);

/* Names of the entries of a folder that match a pattern, in the order of their numbers; free with
 * sp_files_free. */
typedef struct sp_files {
    char **items;
    size_t count;
} sp_files;

bool sp_files_list(sp_files *names, const char *folder, const char *pattern);
void sp_files_free(sp_files *names);

/* A name made of letters, digits, '.', '-' and '_' only, for use as a file's. */
void sp_cli_file_name(char *out, size_t size, const char *name);

/* A new string, printf-style; NULL if there is no memory. */
char *sp_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
