/* model_builder.h - small ONNX models made in memory for the tests of the loader. All memory goes
 * with mb_end(). */
#ifndef TESTS_ONNX_MODEL_BUILDER_H
#define TESTS_ONNX_MODEL_BUILDER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "onnx.pb-c.h"
#include "onnx/load.h"
#include "sparoa_backend.h"

typedef SpOnnx__ModelProto mb_model;
typedef SpOnnx__GraphProto mb_graph;
typedef SpOnnx__NodeProto mb_node;
typedef SpOnnx__AttributeProto mb_attr;
typedef SpOnnx__TensorProto mb_tensor;
typedef SpOnnx__FunctionProto mb_function;

static void **mb_blocks;
static size_t mb_count, mb_capacity;

static inline void *mb_alloc(size_t size)
{
    if (mb_count == mb_capacity) {
        mb_capacity = mb_capacity ? mb_capacity * 2 : 64;
        mb_blocks = realloc(mb_blocks, mb_capacity * sizeof *mb_blocks);
    }
    return mb_blocks[mb_count++] = calloc(1, size ? size : 1);
}

static inline void mb_end(void)
{
    for (size_t i = 0; i < mb_count; i++) free(mb_blocks[i]);
    free(mb_blocks);
    mb_blocks = NULL;
    mb_count = mb_capacity = 0;
}

static inline char *mb_str(const char *s)
{
    char *p = mb_alloc(strlen(s) + 1);
    return strcpy(p, s);
}

/* Appends a pointer to a repeated field. */
#define MB_APPEND(list, n, item)                                                                   \
    do {                                                                                           \
        void *mb_more_ = mb_alloc(((n) + 1) * sizeof *(list));                                     \
        if (list) memcpy(mb_more_, (list), (n) * sizeof *(list));                                  \
        (list) = mb_more_;                                                                         \
        (list)[(n)++] = (item);                                                                    \
    } while (0)

#define MB_NEW(type, init) ((type *)memcpy(mb_alloc(sizeof(type)), &(type)init, sizeof(type)))

/* "a,b,,c" into a list; "" is an empty list. */
static inline char **mb_names(const char *text, size_t *n)
{
    char **list = NULL;
    *n = 0;
    for (const char *p = text; *text;) {
        size_t k = strcspn(p, ",");
        char *s = mb_alloc(k + 1);
        memcpy(s, p, k);
        MB_APPEND(list, *n, s);
        if (!p[k]) break;
        p += k + 1;
    }
    return list;
}

static inline mb_graph *mb_new_graph(const char *name)
{
    mb_graph *g = MB_NEW(mb_graph, SP_ONNX__GRAPH_PROTO__INIT);
    g->name = mb_str(name);
    return g;
}

static inline void mb_import(mb_model *m, const char *domain, int64_t version)
{
    SpOnnx__OperatorSetIdProto *o =
        MB_NEW(SpOnnx__OperatorSetIdProto, SP_ONNX__OPERATOR_SET_ID_PROTO__INIT);
    o->domain = mb_str(domain);
    o->has_version = 1;
    o->version = version;
    MB_APPEND(m->opset_import, m->n_opset_import, o);
}

static inline mb_model *mb_new(void)
{
    mb_model *m = MB_NEW(mb_model, SP_ONNX__MODEL_PROTO__INIT);
    m->has_ir_version = 1;
    m->ir_version = 8;
    m->producer_name = mb_str("tests");
    m->producer_version = mb_str("1.0");
    m->graph = mb_new_graph("main");
    mb_import(m, "", 17);
    return m;
}

static inline mb_node *mb_make_node(const char *op, const char *name, const char *in,
                                    const char *out)
{
    mb_node *n = MB_NEW(mb_node, SP_ONNX__NODE_PROTO__INIT);
    n->op_type = mb_str(op);
    n->name = mb_str(name);
    n->input = mb_names(in, &n->n_input);
    n->output = mb_names(out, &n->n_output);
    return n;
}

static inline mb_node *mb_add(mb_graph *g, const char *op, const char *name, const char *in,
                              const char *out)
{
    mb_node *n = mb_make_node(op, name, in, out);
    MB_APPEND(g->node, g->n_node, n);
    return n;
}

static inline mb_attr *mb_attribute(mb_node *n, const char *name, int32_t type)
{
    mb_attr *a = MB_NEW(mb_attr, SP_ONNX__ATTRIBUTE_PROTO__INIT);
    a->name = mb_str(name);
    a->has_type = 1;
    a->type = type;
    if (n) MB_APPEND(n->attribute, n->n_attribute, a);
    return a;
}

static inline mb_attr *mb_int(mb_node *n, const char *name, int64_t value)
{
    mb_attr *a = mb_attribute(n, name, SPAROA_ATTR_INT);
    a->has_i = 1;
    a->i = value;
    return a;
}

static inline mb_graph *mb_subgraph(mb_node *n, const char *name)
{
    mb_attr *a = mb_attribute(n, name, SPAROA_ATTR_GRAPH);
    a->g = mb_new_graph(name);
    return a->g;
}

/* dims: -1 is a dimension named "N". rank -1: no type. */
static inline SpOnnx__ValueInfoProto *mb_info(const char *name, int32_t type, int rank,
                                              const int64_t *dims)
{
    SpOnnx__ValueInfoProto *v = MB_NEW(SpOnnx__ValueInfoProto, SP_ONNX__VALUE_INFO_PROTO__INIT);
    v->name = mb_str(name);
    if (rank < 0) return v;
    v->type = MB_NEW(SpOnnx__TypeProto, SP_ONNX__TYPE_PROTO__INIT);
    v->type->tensor_type = MB_NEW(SpOnnx__TypeProto__Tensor, SP_ONNX__TYPE_PROTO__TENSOR__INIT);
    v->type->tensor_type->has_elem_type = 1;
    v->type->tensor_type->elem_type = type;
    SpOnnx__TensorShapeProto *s =
        MB_NEW(SpOnnx__TensorShapeProto, SP_ONNX__TENSOR_SHAPE_PROTO__INIT);
    v->type->tensor_type->shape = s;
    for (int i = 0; i < rank; i++) {
        SpOnnx__TensorShapeProto__Dimension *d = MB_NEW(
            SpOnnx__TensorShapeProto__Dimension, SP_ONNX__TENSOR_SHAPE_PROTO__DIMENSION__INIT);
        if (dims[i] < 0)
            d->dim_param = mb_str("N");
        else
            d->has_dim_value = 1;
        d->dim_value = dims[i];
        MB_APPEND(s->dim, s->n_dim, d);
    }
    return v;
}

static inline void mb_input(mb_graph *g, const char *name, int32_t type, int rank,
                            const int64_t *dims)
{
    MB_APPEND(g->input, g->n_input, mb_info(name, type, rank, dims));
}

static inline void mb_output(mb_graph *g, const char *name)
{
    MB_APPEND(g->output, g->n_output, mb_info(name, 0, -1, NULL));
}

static inline mb_tensor *mb_make_tensor(const char *name, int32_t type, int rank,
                                        const int64_t *dims)
{
    mb_tensor *t = MB_NEW(mb_tensor, SP_ONNX__TENSOR_PROTO__INIT);
    t->name = mb_str(name);
    t->has_data_type = 1;
    t->data_type = type;
    t->n_dims = (size_t)rank;
    t->dims = mb_alloc((size_t)rank * sizeof *t->dims);
    if (rank) memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
    return t;
}

static inline void mb_raw(mb_tensor *t, const void *data, size_t size)
{
    t->has_raw_data = 1;
    t->raw_data.len = size;
    t->raw_data.data = mb_alloc(size);
    if (size) memcpy(t->raw_data.data, data, size);
}

static inline mb_tensor *mb_initializer(mb_graph *g, const char *name, int32_t type, int rank,
                                        const int64_t *dims)
{
    mb_tensor *t = mb_make_tensor(name, type, rank, dims);
    MB_APPEND(g->initializer, g->n_initializer, t);
    return t;
}

static inline void mb_external(mb_tensor *t, const char *key, const char *value)
{
    SpOnnx__StringStringEntryProto *e =
        MB_NEW(SpOnnx__StringStringEntryProto, SP_ONNX__STRING_STRING_ENTRY_PROTO__INIT);
    e->key = mb_str(key);
    e->value = mb_str(value);
    t->has_data_location = 1;
    t->data_location = 1;
    MB_APPEND(t->external_data, t->n_external_data, e);
}

static inline mb_function *mb_new_function(mb_model *m, const char *name, const char *in,
                                           const char *out)
{
    mb_function *f = MB_NEW(mb_function, SP_ONNX__FUNCTION_PROTO__INIT);
    f->domain = mb_str("local");
    f->name = mb_str(name);
    f->input = mb_names(in, &f->n_input);
    f->output = mb_names(out, &f->n_output);
    MB_APPEND(m->functions, m->n_functions, f);
    return f;
}

static inline mb_node *mb_body(mb_function *f, const char *op, const char *name, const char *in,
                               const char *out)
{
    mb_node *n = mb_make_node(op, name, in, out);
    MB_APPEND(f->node, f->n_node, n);
    return n;
}

static inline uint8_t *mb_pack(const mb_model *m, size_t *size)
{
    *size = sp_onnx__model_proto__get_packed_size(m);
    uint8_t *p = mb_alloc(*size);
    sp_onnx__model_proto__pack(m, p);
    return p;
}

/* Operators that the tests load; nothing runs. */
#define MB_ROW(op, in_least, in_most, out_most, class)                                             \
    {                                                                                              \
        .struct_size = sizeof(sparoa_op), .name = op, .domain = "", .since = 1,                    \
        .min_in = in_least, .max_in = in_most, .min_out = 1, .max_out = out_most,                  \
        .op_class = class                                                                          \
    }
static const sparoa_op mb_rows[] = {
    MB_ROW("Relu", 1, 1, 1, SPAROA_CLASS_ELTWISE), MB_ROW("Add", 2, 2, 1, SPAROA_CLASS_ELTWISE),
    MB_ROW("Clip", 1, 3, 1, SPAROA_CLASS_ELTWISE), MB_ROW("Split", 1, 2, -1, SPAROA_CLASS_MOVE),
    MB_ROW("Concat", 1, -1, 1, SPAROA_CLASS_MOVE), MB_ROW("Identity", 1, 1, 1, SPAROA_CLASS_MOVE),
    MB_ROW("If", 1, 1, -1, SPAROA_CLASS_CONTROL),  MB_ROW("Loop", 2, -1, -1, SPAROA_CLASS_CONTROL)};
#define MB_ROWS (sizeof mb_rows / sizeof *mb_rows)

/* Loads bytes; everything allocated must be freed again, which mb_unload checks. */
typedef struct mb_loaded {
    sp_mem mem;
    sparoa_allocator alloc;
    sp_graph *graph;
    sp_model_meta meta;
    sparoa_error err;
    sparoa_status status;
} mb_loaded;

static inline void mb_load_source(mb_loaded *l, sp_onnx_source src)
{
    static const sparoa_op *rows[MB_ROWS];
    for (size_t i = 0; i < MB_ROWS; i++) rows[i] = &mb_rows[i];
    src.extra_ops = rows;
    src.extra_count = MB_ROWS;
    memset(l, 0, sizeof *l);
    l->alloc = sp_mem_init(&l->mem, NULL, 0);
    l->status = sp_onnx_load(&src, &l->alloc, &l->graph, &l->meta, &l->err);
    assert_true((l->status == SPAROA_OK) == (l->graph != NULL));
    if (l->status != SPAROA_OK) assert_int_equal(l->err.status, l->status);
}

static inline void mb_unload(mb_loaded *l)
{
    sp_graph_destroy(l->graph);
    assert_int_equal(atomic_load(&l->mem.used), 0);
}

static inline void mb_load(mb_loaded *l, const mb_model *m)
{
    size_t size;
    uint8_t *bytes = mb_pack(m, &size);
    mb_load_source(l, (sp_onnx_source){.data = bytes, .size = size});
}

static inline sp_id mb_value(const sp_graph *g, const char *name)
{
    for (size_t i = 0; i < g->value_count; i++)
        if (strcmp(g->values[i].name, name) == 0) return (sp_id)i;
    return SP_NO_ID;
}

/* The model must be refused with that status and a message that contains `text`. */
static inline void mb_refused(const mb_model *m, sparoa_status status, const char *text)
{
    mb_loaded l;
    mb_load(&l, m);
    if (l.status != status || !strstr(l.err.message, text))
        fail_msg("got %s: %s\nexpected %s with '%s'", sparoa_status_name(l.status), l.err.message,
                 sparoa_status_name(status), text);
    mb_unload(&l);
}

/* x -> Relu -> y, on which most tests build. */
static inline mb_model *mb_relu(void)
{
    mb_model *m = mb_new();
    mb_input(m->graph, "x", SPAROA_FLOAT32, 2, (int64_t[]){-1, 4});
    mb_add(m->graph, "Relu", "relu", "x", "y");
    mb_output(m->graph, "y");
    return m;
}

#endif
