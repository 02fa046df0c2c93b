/*
 * External data: what works, and every known way out of the model's folder. Each attack of the CVEs
 * against ONNX's own loader (2022-25882, 2024-27318, 2026-27489, 2026-34446, 2026-34447) must end
 * in FORBIDDEN_PATH, through every door: initialisers, sparse initialisers, attributes of Constant
 * and of other nodes.
 */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model_builder.h"

static char root[64]; /* root/model/ holds the model, root/secret.bin what it must not reach */

static void path_of(char *buffer, size_t size, const char *name)
{
    int n = snprintf(buffer, size, "%s/%s", root, name);
    assert_true(n > 0 && (size_t)n < size);
}

static void write_file(const char *name, const void *data, size_t size)
{
    char path[256];
    path_of(path, sizeof path, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

static void link_to(const char *target, const char *name)
{
    char path[256];
    path_of(path, sizeof path, name);
    assert_int_equal(symlink(target, path), 0);
}

enum { INITIALIZER, SPARSE_INITIALIZER, CONSTANT, CONSTANT_SPARSE, ATTRIBUTE, SUBGRAPH, DOORS };

static SpOnnx__SparseTensorProto *sparse_of(mb_tensor *values)
{
    SpOnnx__SparseTensorProto *s =
        MB_NEW(SpOnnx__SparseTensorProto, SP_ONNX__SPARSE_TENSOR_PROTO__INIT);
    s->values = values;
    s->indices = mb_make_tensor("", SPAROA_INT64, 1, (int64_t[]){4});
    mb_raw(s->indices, (int64_t[]){0, 1, 2, 3}, 32);
    s->n_dims = 1;
    s->dims = (int64_t *)memcpy(mb_alloc(8), &(int64_t){4}, 8);
    return s;
}

/* A model with the tensor "t" of 4 floats at one of the doors. */
static mb_model *model_with(int door, mb_tensor *t)
{
    mb_model *m = mb_relu();
    mb_graph *g = m->graph;
    switch (door) {
    case INITIALIZER: MB_APPEND(g->initializer, g->n_initializer, t); break;
    case SPARSE_INITIALIZER:
        MB_APPEND(g->sparse_initializer, g->n_sparse_initializer, sparse_of(t));
        break;
    case CONSTANT:
        mb_attribute(mb_add(g, "Constant", "c", "", "t"), "value", SPAROA_ATTR_TENSOR)->t = t;
        break;
    case CONSTANT_SPARSE:
        mb_attribute(mb_add(g, "Constant", "c", "", "t"), "sparse_value", 11)->sparse_tensor =
            sparse_of(t);
        break;
    case ATTRIBUTE: mb_attribute(g->node[0], "value", SPAROA_ATTR_TENSOR)->t = t; break;
    default: {
        mb_graph *sub = mb_subgraph(mb_add(g, "If", "if", "x", "r"), "then_branch");
        MB_APPEND(sub->initializer, sub->n_initializer, t);
    }
    }
    return m;
}

static mb_tensor *at(const char *location)
{
    mb_tensor *t = mb_make_tensor("t", SPAROA_FLOAT32, 1, (int64_t[]){4});
    mb_external(t, "location", location);
    return t;
}

static void load(mb_loaded *l, const mb_model *m)
{
    size_t size;
    uint8_t *bytes = mb_pack(m, &size);
    write_file("model/model.onnx", bytes, size);
    char path[256];
    path_of(path, sizeof path, "model/model.onnx");
    mb_load_source(l, (sp_onnx_source){.path = path});
}

static void expect(const mb_model *m, sparoa_status status, const char *text)
{
    mb_loaded l;
    load(&l, m);
    if (l.status != status || (text && !strstr(l.err.message, text)))
        fail_msg("got %s: %s\nexpected %s with '%s'", sparoa_status_name(l.status), l.err.message,
                 sparoa_status_name(status), text ? text : "");
    mb_unload(&l);
}

static void at_every_door(const char *location, sparoa_status status, const char *text)
{
    for (int door = 0; door < DOORS; door++) expect(model_with(door, at(location)), status, text);
}

static const float weights[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static void good_data(void **state)
{
    (void)state;
    at_every_door("w.bin", SPAROA_OK, NULL);
    at_every_door("./w.bin", SPAROA_OK, NULL);
    at_every_door("sub/w.bin", SPAROA_OK, NULL);
    at_every_door("..w", SPAROA_OK, NULL); /* a plain name */
    mb_tensor *t = at("w.bin");
    mb_external(t, "offset", "16");
    mb_external(t, "length", "16");
    mb_external(t, "checksum", "whatever");
    mb_loaded l;
    load(&l, model_with(INITIALIZER, t));
    const sp_value *v = &l.graph->values[mb_value(l.graph, "t")];
    assert_memory_equal(v->fact.data, weights + 4, 16);
    assert_non_null(v->blob->owner); /* in place */
    mb_unload(&l);
}

static void unaligned_data_is_copied(void **state)
{
    (void)state;
    mb_tensor *t = at("w.bin");
    mb_external(t, "offset", "1");
    mb_loaded l;
    load(&l, model_with(INITIALIZER, t));
    const sp_value *v = &l.graph->values[mb_value(l.graph, "t")];
    assert_int_equal((uintptr_t)v->fact.data % 4, 0);
    assert_memory_equal(v->fact.data, (const char *)weights + 1, 16);
    mb_unload(&l);
}

static void ranges(void **state)
{
    (void)state;
    const struct {
        const char *key, *value;
    } bad[] = {{"offset", "17"},
               {"offset", "18446744073709551615"},
               {"offset", "18446744073709551616"},
               {"offset", "-16"},
               {"offset", "0x0"},
               {"offset", ""},
               {"length", "15"},
               {"length", "17"},
               {"length", "18446744073709551615"},
               {"length", " 16"},
               {"offset", "18446744073709551600"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mb_tensor *t = at("w.bin");
        mb_external(t, bad[i].key, bad[i].value);
        expect(model_with(INITIALIZER, t), SPAROA_MALFORMED, "external data");
    }
    mb_tensor *t = at("w.bin");
    t->dims[0] = 1ll << 60;
    expect(model_with(INITIALIZER, t), SPAROA_MALFORMED, "outside");
    at_every_door("none.bin", SPAROA_NOT_FOUND, "none.bin");
    at_every_door("none/w.bin", SPAROA_NOT_FOUND, "none/w.bin");
    expect(model_with(INITIALIZER, at("empty.bin")), SPAROA_MALFORMED, "empty");
}

static void ways_out(void **state)
{
    (void)state;
    at_every_door("../secret.bin", SPAROA_FORBIDDEN_PATH, "'..'");
    at_every_door("sub/../../secret.bin", SPAROA_FORBIDDEN_PATH, "'..'");
    at_every_door("./../secret.bin", SPAROA_FORBIDDEN_PATH, "'..'");
    at_every_door("sub//..//w.bin", SPAROA_FORBIDDEN_PATH, "'..'");
    at_every_door("..", SPAROA_FORBIDDEN_PATH, NULL);
    at_every_door("", SPAROA_FORBIDDEN_PATH, NULL);
    at_every_door(".", SPAROA_FORBIDDEN_PATH, "folder");
    at_every_door("sub", SPAROA_FORBIDDEN_PATH, "no regular file");
    at_every_door("sub/", SPAROA_FORBIDDEN_PATH, "folder");
    at_every_door("w.bin/x", SPAROA_FORBIDDEN_PATH, "no folder");
    at_every_door("pipe", SPAROA_FORBIDDEN_PATH, "no regular file");
    char absolute[400], here[300];
    assert_non_null(getcwd(here, sizeof here - sizeof root - 16));
    snprintf(absolute, sizeof absolute, "%s/%s/model/w.bin", here,
             root); /* absolute, even if inside */
    at_every_door(absolute, SPAROA_FORBIDDEN_PATH, "absolute");
    at_every_door("//w.bin", SPAROA_FORBIDDEN_PATH, "absolute");
}

static void links(void **state)
{
    (void)state;
    at_every_door("link.bin", SPAROA_FORBIDDEN_PATH, "symbolic link"); /* to ../secret.bin */
    at_every_door("inside.bin", SPAROA_FORBIDDEN_PATH,
                  "symbolic link"); /* to w.bin: still refused */
    at_every_door("up/secret.bin", SPAROA_FORBIDDEN_PATH, "symbolic link"); /* up is a link to .. */
    at_every_door("sub/up/secret.bin", SPAROA_FORBIDDEN_PATH, "symbolic link");
    at_every_door("dangling.bin", SPAROA_FORBIDDEN_PATH, "symbolic link");
    at_every_door("hard.bin", SPAROA_FORBIDDEN_PATH, "hard link"); /* the inode of ../secret.bin */
}

/* "model" is a prefix of "model2": comparing strings is no confinement. */
static void sibling_with_the_same_prefix(void **state)
{
    (void)state;
    at_every_door("../model2/w.bin", SPAROA_FORBIDDEN_PATH, "'..'");
    at_every_door("2/w.bin", SPAROA_NOT_FOUND, NULL);
}

static void folder_given_or_missing(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = mb_pack(model_with(INITIALIZER, at("w.bin")), &size);
    mb_loaded l;
    mb_load_source(&l, (sp_onnx_source){.data = bytes, .size = size});
    assert_int_equal(l.status, SPAROA_FORBIDDEN_PATH);
    assert_non_null(strstr(l.err.message, "external_data_dir"));
    mb_unload(&l);
    char folder[256];
    path_of(folder, sizeof folder, "model");
    mb_load_source(&l, (sp_onnx_source){.data = bytes, .size = size, .external_dir = folder});
    assert_int_equal(l.status, SPAROA_OK);
    mb_unload(&l);
}

/* Keys of a file never become anything but location, offset and length. */
static void strange_keys_are_ignored(void **state)
{
    (void)state;
    mb_tensor *t = at("w.bin");
    mb_external(t, "basepath", "/");
    mb_external(t, "__class__", "x");
    expect(model_with(INITIALIZER, t), SPAROA_OK, NULL);
}

static int setup(void **state)
{
    (void)state;
    strcpy(root, "external_XXXXXX");
    if (!mkdtemp(root)) return -1;
    char path[256], other[256];
    const char *const folders[] = {"model", "model/sub", "model2"};
    for (size_t i = 0; i < 3; i++) {
        path_of(path, sizeof path, folders[i]);
        if (mkdir(path, 0700)) return -1;
    }
    const char *const files[] = {"secret.bin", "model/w.bin", "model/sub/w.bin", "model/..w",
                                 "model2/w.bin"};
    for (size_t i = 0; i < 5; i++) write_file(files[i], weights, sizeof weights);
    write_file("model/empty.bin", "", 0);
    link_to("../secret.bin", "model/link.bin");
    link_to("w.bin", "model/inside.bin");
    link_to("..", "model/up");
    link_to("../..", "model/sub/up");
    link_to("nowhere", "model/dangling.bin");
    path_of(path, sizeof path, "secret.bin");
    path_of(other, sizeof other, "model/hard.bin");
    if (link(path, other)) return -1;
    path_of(path, sizeof path, "model/pipe");
    return mkfifo(path, 0600);
}

static int cleanup(void **state)
{
    (void)state;
    const char *const names[] = {
        "model/model.onnx",   "model/w.bin",    "model/sub/w.bin",  "model/..w", "model2/w.bin",
        "model/empty.bin",    "model/link.bin", "model/inside.bin", "model/up",  "model/sub/up",
        "model/dangling.bin", "model/hard.bin", "model/pipe",       "secret.bin"};
    const char *const folders[] = {"model/sub", "model", "model2", "."};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        path_of(path, sizeof path, names[i]);
        unlink(path);
    }
    for (size_t i = 0; i < 3; i++) {
        path_of(path, sizeof path, folders[i]);
        rmdir(path);
    }
    return rmdir(root);
}

static int end(void **state)
{
    (void)state;
    mb_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(good_data, end),
        cmocka_unit_test_teardown(unaligned_data_is_copied, end),
        cmocka_unit_test_teardown(ranges, end),
        cmocka_unit_test_teardown(ways_out, end),
        cmocka_unit_test_teardown(links, end),
        cmocka_unit_test_teardown(sibling_with_the_same_prefix, end),
        cmocka_unit_test_teardown(folder_given_or_missing, end),
        cmocka_unit_test_teardown(strange_keys_are_ignored, end),
    };
    return cmocka_run_group_tests(tests, setup, cleanup);
}
