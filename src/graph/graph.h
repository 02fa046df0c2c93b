/*
 * graph.h - the intermediate representation: nodes and values in arrays, named by ids.
 *
 * A graph owns its arena; names, attributes and id lists live there and are freed together.
 * Constant data lives in blobs, which graphs (a model's and its sessions' copies) share by
 * reference count. Nodes stand in topological order; sp_graph_verify checks that and the rest after
 * loading and after every pass.
 */
#ifndef SP_GRAPH_GRAPH_H
#define SP_GRAPH_GRAPH_H

#include <string.h>

#include "base/mem.h"
#include "sparoa_backend.h"

typedef uint32_t sp_id;
#define SP_NO_ID UINT32_MAX

/* Bytes that several owners share. */
typedef struct sp_blob {
    atomic_int refs;
    void *data;
    size_t bytes;
    sparoa_allocator alloc; /* frees this struct, and data unless another owner or unmap does */
    struct sp_blob
        *owner;  /* data lies inside this blob (a mapped file), which it keeps alive; or NULL */
    bool mapped; /* data is a mapping: munmap */
} sp_blob;

/* New blobs have one reference, which the caller owns. All return NULL without memory. */
sp_blob *sp_blob_create(const sparoa_allocator *alloc,
                        size_t bytes); /* data allocated, uninitialised */
sp_blob *sp_blob_map(const sparoa_allocator *alloc, void *mapping,
                     size_t bytes); /* takes over a mapping */
sp_blob *sp_blob_slice(const sparoa_allocator *alloc, sp_blob *owner, size_t offset, size_t bytes);
sp_blob *sp_blob_ref(sp_blob *blob);
void sp_blob_unref(sp_blob *blob); /* NULL is fine */
/* Hints that the data will hardly be read again: pages of a mapped file need not stay in memory. */
void sp_blob_idle(const sp_blob *blob);

/* A float32 constant of at least this many bytes may lie in a file where no float may: it can be
 * copied and compared as bytes, and its elements read by sp_f32_at; before anything else reads
 * them, sp_graph_align. */
#define SP_ALIGN_LATER ((size_t)1 << 16)
static inline float sp_f32_at(const sparoa_tensor *t, int64_t i)
{
    float value;
    memcpy(&value, (const char *)t->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

typedef enum sp_value_kind {
    SP_VALUE_NODE,   /* output of a node */
    SP_VALUE_INPUT,  /* input of the graph */
    SP_VALUE_CONST,  /* data known: initialiser or folded */
    SP_VALUE_CAPTURE /* subgraphs only: a value of the enclosing graph */
} sp_value_kind;

typedef struct sp_value {
    const char *name;       /* unique within the graph; never NULL */
    const char *model_name; /* the value of the model that this one is another form of, or NULL */
    sparoa_tensor fact;     /* what is known of type and shape; data: constants only, inside blob */
    sp_blob *blob;          /* constants only */
    const char **dim_names; /* rank entries for graph inputs and outputs with symbolic dimensions,
                               else NULL */
    sp_id producer;         /* node that writes it, or SP_NO_ID */
    sp_value_kind kind;
    bool nhwc; /* stored with the channel last although the model has it second */
} sp_value;

typedef struct sp_graph sp_graph;

typedef struct sp_gnode {
    const char *name;             /* of the file, or made up: never NULL, never "" */
    const char *op_type, *domain; /* domain "" for ai.onnx */
    const sparoa_op *op;
    sparoa_attr *attrs;
    sp_id *in, *out;      /* SP_NO_ID: left out. in: the node's own inputs, then the values that its
                             subgraphs      capture */
    sp_graph **subgraphs; /* owned; attributes of type GRAPH hold their index */
    int32_t version;      /* opset version of the domain */
    int32_t n_in, n_explicit, n_out, n_attrs, n_subgraphs;
    bool dead; /* removed by a pass; sp_graph_compact drops it */
} sp_gnode;

struct sp_graph {
    const char *name;
    sp_arena arena;
    sp_value *values;
    sp_gnode *nodes;
    size_t value_count, value_capacity;
    size_t node_count, node_capacity;
    sp_id *inputs, *outputs; /* in the arena */
    uint32_t input_count, output_count;
    /* Subgraphs: value capture_values[k] is the enclosing node's input number capture_inputs[k]. */
    sp_id *capture_values;
    uint32_t *capture_inputs;
    uint32_t capture_count;
    /* What sp_graph_unique_name looks names up in, or NULL: those of the first `named` values. */
    struct sp_names *names;
    size_t named;
};

/* What a model file says besides its graph. Strings live in the graph's arena. */
typedef struct sp_model_meta {
    const char *producer;
    int64_t ir_version, opset;
    const char **keys, **values; /* metadata_props */
    size_t count;
} sp_model_meta;

sp_graph *sp_graph_create(const sparoa_allocator *alloc, const char *name); /* NULL: no memory */
void sp_graph_destroy(sp_graph *graph);
/* A copy that shares the blobs. */
sp_graph *sp_graph_clone(const sp_graph *graph, const sparoa_allocator *alloc);

/* Adding; the id or SP_NO_ID without memory. Strings are copied into the arena. Pointers into
 * values and nodes are valid until the next addition. */
sp_id sp_graph_add_value(sp_graph *graph, const char *name, sp_value_kind kind);
sp_id sp_graph_add_const(sp_graph *graph, const char *name, const sparoa_tensor *fact,
                         sp_blob *blob); /* takes over
the reference, on failure too; data = blob's */
/* attrs are copied shallowly: names and arrays must live in the arena or be static. Sets the
 * producers of out. */
sp_id sp_graph_add_node(sp_graph *graph, const char *name, const sparoa_op *op, int32_t version,
                        const sp_id *in, int32_t n_in, const sp_id *out, int32_t n_out,
                        const sparoa_attr *attrs, int32_t n_attrs);
/* Gives a constant that lies unaligned in a file an aligned copy, and lets go of the file's pages.
 * `spare` (or NULL): a blob that nothing else uses, or NULL in it, which is used up: the copy lies
 * in it where it is large enough, so a blob may be larger than its value. */
sparoa_status sp_graph_align(sp_graph *graph, sp_id value, sp_blob **spare, sparoa_error *err);
/* A name based on `base` that no value of the graph has; NULL: no memory. */
const char *sp_graph_unique_name(sp_graph *graph, const char *base);

/* Attributes of a node: replaces or adds. False: no memory. */
bool sp_node_set_int(sp_graph *graph, sp_id node, const char *name, int64_t value);
bool sp_node_set_float(sp_graph *graph, sp_id node, const char *name, float value);
bool sp_node_set_ints(sp_graph *graph, sp_id node, const char *name, const int64_t *values,
                      size_t count);
bool sp_node_set_string(sp_graph *graph, sp_id node, const char *name, const char *value);
bool sp_node_append_input(sp_graph *graph, sp_id node, sp_id value);

/* Consumers: the number of uses of a value by living nodes and graph outputs. */
typedef struct sp_uses {
    uint32_t *count; /* by value id */
    sp_id *single;   /* the node that uses it, where exactly one does */
    size_t values;
    sparoa_allocator alloc;
} sp_uses;
bool sp_uses_build(sp_uses *uses, const sp_graph *graph,
                   const sparoa_allocator *alloc); /* false: no memory */
void sp_uses_free(sp_uses *uses);

/* The inputs of nodes that read each value, as lists. Inputs that are added or changed by others
 * than sp_graph_replace_uses are not in them, or in the wrong one. */
typedef struct sp_use_lists {
    uint32_t *first; /* by value id; UINT32_MAX: none */
    struct sp_use {
        sp_id *input;
        uint32_t next;
    } * uses;
    size_t values, count;
    sparoa_allocator alloc;
} sp_use_lists;
bool sp_use_lists_build(sp_use_lists *lists, const sp_graph *graph,
                        const sparoa_allocator *alloc); /* false: no memory */
void sp_use_lists_free(sp_use_lists *lists);

/* Replaces every use of `from` (graph outputs included) by `to`. */
void sp_graph_replace_uses(sp_graph *graph, sp_use_lists *lists, sp_id from, sp_id to);
/* Drops dead nodes and puts the rest in topological order, keeping the present order where it can.
 * Fails with INVALID_GRAPH naming a node on a cycle. */
sparoa_status sp_graph_compact(sp_graph *graph, sparoa_error *err);
/* Checks every rule that passes and engine rely on. */
sparoa_status sp_graph_verify(const sp_graph *graph, sparoa_error *err);

/* Fills `view` for a node: pointers to the facts of its values (in and out must hold n_in and n_out
 * entries; constant may be NULL or hold n_in). Used to call an operator's infer, cost and supports.
 */
void sp_graph_node_view(const sp_graph *graph, const sp_gnode *node, sparoa_tensor **in,
                        sparoa_tensor **out, bool *constant, sparoa_node *view);

#endif
