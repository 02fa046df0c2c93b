/* internal.h - what the files of src/onnx/ share. */
#ifndef SP_ONNX_INTERNAL_H
#define SP_ONNX_INTERNAL_H

#include "graph/names.h"
#include "onnx.pb-c.h"
#include "onnx/load.h"
#include "onnx/prescan.h"
#include "ops/op.h"

typedef SpOnnx__ModelProto onnx_model;
typedef SpOnnx__GraphProto onnx_graph;
typedef SpOnnx__NodeProto onnx_node;
typedef SpOnnx__AttributeProto onnx_attr;
typedef SpOnnx__TensorProto onnx_tensor;
typedef SpOnnx__SparseTensorProto onnx_sparse;
typedef SpOnnx__ValueInfoProto onnx_value_info;
typedef SpOnnx__FunctionProto onnx_function;

#define SP_ONNX_MAX_NESTING 48 /* subgraphs and function calls inside each other */
#define SP_ONNX_MAX_FUNCTIONS 10000
#define SP_ONNX_MAX_ENTRIES 1000 /* attributes of a node or function, operator sets */
#define SP_ONNX_SPARE_BYTES ((size_t)256 << 20) /* see budget */

/* A file of external data. */
typedef struct sp_external {
    const char *location;
    sp_blob *blob;
} sp_external;

/* One load under way. */
typedef struct sp_onnx {
    sparoa_allocator alloc;
    sparoa_error *err;
    sp_arena scratch; /* protobuf-c's messages and whatever lives until the load ends */
    sp_blob *file;
    sp_prescan scan;
    const onnx_model *model;
    const sparoa_op *const *extra_ops;
    size_t extra_count;
    const char *dir; /* folder of external data, or NULL */
    sp_external *externals;
    size_t external_count, external_capacity;
    size_t nodes;  /* made so far, and functions called; limited because functions multiply */
    size_t budget; /* bytes that may still be copied out of the file: some multiple of its size */
    size_t names;  /* counts made-up names */
    int nesting;
} sp_onnx;

/* ---- source.c ---- */
/* The bytes of a source as a blob; mapped or copied. */
sparoa_status sp_onnx_open(const sp_onnx_source *src, const sparoa_allocator *alloc, sp_blob **file,
                           sparoa_error *err);
/* Maps `size` bytes of an open file. Name is for messages. */
sparoa_status sp_onnx_map(int fd, size_t size, const char *name, const sparoa_allocator *alloc,
                          sp_blob **blob, sparoa_error *err);
/* Prescans x->file and unpacks it as a message of that type into x->scratch. */
sparoa_status sp_onnx_unpack(sp_onnx *x, const ProtobufCMessageDescriptor *type,
                             ProtobufCMessage **message);
void sp_onnx_close(sp_onnx *x); /* frees all but what graphs took over */
/* Takes bytes from the budget. */
sparoa_status sp_onnx_budget(sp_onnx *x, size_t bytes);

/* ---- tensor.c ---- */
/* "int4", "string": the name of an ONNX element type, supported or not. */
const char *sp_onnx_type_name(int32_t type);
/* Whether the type is one of sparoa_dtype. */
bool sp_onnx_type_known(int32_t type);
/* UNSUPPORTED_TYPE unless so. what names the object in messages: "initialiser 'w'". */
sparoa_status sp_onnx_dtype(sp_onnx *x, int32_t type, const char *what, sparoa_dtype *dtype);
/* dtype, rank and dims of a tensor, whose data is `bytes` long. */
sparoa_status sp_onnx_fact(sp_onnx *x, int32_t type, const int64_t *dims, size_t rank,
                           const char *what, sparoa_tensor *fact, size_t *bytes);
/* A tensor's fact and data, in the mapped file or decoded. The caller owns *blob. fact->data is
 * set. */
sparoa_status sp_onnx_tensor(sp_onnx *x, const onnx_tensor *t, const char *what,
                             sparoa_tensor *fact, sp_blob **blob);
sparoa_status sp_onnx_sparse(sp_onnx *x, const onnx_sparse *t, const char *what,
                             sparoa_tensor *fact, sp_blob **blob);

/* ---- external.c ---- */
/* `bytes` of external data of a tensor, aligned for elements of that size. */
sparoa_status sp_onnx_external(sp_onnx *x, const onnx_tensor *t, const char *what, size_t bytes,
                               size_t align, sp_blob **blob);

/* ---- scope.c ---- */
/* A function call that is being inlined. */
typedef struct sp_scope sp_scope;
typedef struct sp_call {
    const onnx_function *function;
    const onnx_node *site;
    const sp_scope *site_scope;
} sp_call;

/* Names visible in a graph or in a function body. A function body's nodes go into the graph of the
 * call. */
struct sp_scope {
    sp_scope *parent; /* scope of the enclosing graph: where names not found here are looked up;
                         NULL: nowhere. Of a subgraph that is put in line: of the same graph. */
    sp_scope *home;   /* scope of the graph itself: this one unless its nodes are put in line */
    sp_graph *graph;
    const sp_call
        *call; /* the function whose body this is, or lies in; NULL: the model's own graph */
    const char *prefix; /* of names made in function bodies */
    sp_names names;
    sp_names
        results; /* function bodies only: outputs of the function and the values that they write */
    sp_names made;   /* home only: names of values that have no name in the file */
    sp_id *captures; /* home only: value of this graph, value of the parent's graph, in pairs */
    size_t capture_ids, capture_capacity;
};

#define SP_ID_UNUSABLE                                                                             \
    (SP_NO_ID - 1) /* names a constant of an unsupported type, which nothing may use */

void sp_scope_init(sp_onnx *x, sp_scope *scope, sp_scope *parent, sp_graph *graph,
                   const sp_call *call);
void sp_scope_free(sp_scope *scope);
/* Adds a value under its name in the file, which must be new. kind CONST: fact and blob (taken
 * over). */
sparoa_status sp_scope_define(sp_onnx *x, sp_scope *scope, const char *name, sp_value_kind kind,
                              const sparoa_tensor *fact, sp_blob *blob, sp_id *id);
/* Adds a value that has no name in the file; its name begins with `base`. */
sparoa_status sp_scope_temporary(sp_onnx *x, sp_scope *scope, const char *base, sp_id *id);
/* Binds a name to a value that is there already. */
sparoa_status sp_scope_bind(sp_onnx *x, sp_scope *scope, const char *name, sp_id id);
/* Finds a name here or outside, capturing it; user says in messages who asks. */
sparoa_status sp_scope_resolve(sp_onnx *x, sp_scope *scope, const char *name, const char *user,
                               sp_id *id);

/* ---- attr.c ---- */
/* The attribute that holds the value: `a` itself, or what it refers to in a function call; NULL:
 * left out. */
const onnx_attr *sp_attr_value(const sp_scope *scope, const onnx_attr *a);
/* The type of an attribute; older files don't say it. 0: none. */
int32_t sp_attr_type(const onnx_attr *a);
/* Copies an attribute that is no graph into the arena of scope's graph. */
sparoa_status sp_attr_copy(sp_onnx *x, const sp_scope *scope, const char *node, const char *name,
                           const onnx_attr *value, sparoa_attr *out);
/* The value of a Constant node. *usable false: of an unsupported type. */
sparoa_status sp_attr_constant(sp_onnx *x, const sp_scope *scope, const onnx_node *node,
                               sparoa_tensor *fact, sp_blob **blob, bool *usable);

/* ---- lookup.c ---- */
/* What a node means: a function of the model, or a row. Both NULL: not supported. */
typedef struct sp_target {
    const onnx_function *function;
    const sparoa_op *op;
    int32_t version;
} sp_target;
sp_target sp_onnx_lookup(const sp_onnx *x, const onnx_function *within, const onnx_node *node);
/* Whether it is ai.onnx's Constant, which becomes a constant of the graph. */
bool sp_onnx_is_constant(const sp_onnx *x, const onnx_function *within, const onnx_node *node);
/* Names all operators that are not supported in one error. */
sparoa_status sp_onnx_check_ops(sp_onnx *x);
/* Checks IR version and opsets. */
sparoa_status sp_onnx_check_versions(sp_onnx *x);

/* ---- build.c ---- */
/* Makes a graph; parent: scope of the node that it is a subgraph of, or NULL. capture_inputs of a
 * subgraph holds the captured values of the parent's graph until its node is added. */
sparoa_status sp_onnx_build(sp_onnx *x, const onnx_graph *g, sp_scope *parent, sp_graph **graph);
/* Adds nodes, in any order, to scope's graph. */
sparoa_status sp_onnx_add_nodes(sp_onnx *x, sp_scope *scope, onnx_node *const *nodes, size_t count);

/* Constants of a graph under their names. */
sparoa_status sp_onnx_add_initializers(sp_onnx *x, sp_scope *scope, const onnx_graph *g);

/* ---- flex.c ---- */
/* Whether the node is a FlexAttention with subgraphs; adds the nodes that it stands for. */
bool sp_onnx_is_flex(const onnx_node *node, const sparoa_op *op);
sparoa_status sp_onnx_add_flex(sp_onnx *x, sp_scope *scope, const onnx_node *node);

/* ---- node.c ---- */
/* Adds one node whose outputs are declared, with its subgraphs; or the body of the function that it
 * calls. */
sparoa_status sp_onnx_add_node(sp_onnx *x, sp_scope *scope, const onnx_node *node);

static inline const char *sp_str(const char *s)
{
    return s ? s : "";
}

static inline sparoa_status sp_onnx_oom(sp_onnx *x, size_t bytes)
{
    return sp_no_memory(&x->alloc, bytes, x->err);
}

#endif
