/* sparoa check: whether a model loads, what it needs, what it consists of. Nothing is run. */
#include "cli/job.h"
#include "cli/table.h"
#include "cli/tensor_text.h"

#include <stdlib.h>
#include <string.h>

typedef struct op_count {
    const char *op, *domain, *op_class;
    int64_t nodes;
    double flops;
} op_count;

typedef struct check_command {
    sp_cli *cli;
    sp_feed feed;
    sp_job job;
    sparoa_model_info model;
    sparoa_session_info session;
    bool loaded, prepared;
    bool guessed; /* not prepared, because sizes that the model leaves open were not given */
    sparoa_error errors[3];
    size_t error_count;
    op_count *ops;
    size_t op_kinds;
} check_command;

static void note_error(check_command *c, const sparoa_error *err)
{
    if (c->error_count < 3) c->errors[c->error_count++] = *err;
}

static int by_nodes(const void *a, const void *b)
{
    const op_count *x = a, *y = b;
    if (x->nodes != y->nodes) return x->nodes < y->nodes ? 1 : -1;
    return strcmp(x->op, y->op);
}

static void count_ops(check_command *c)
{
    size_t count = sparoa_session_node_count(c->job.session);
    c->ops = calloc(count + 1, sizeof *c->ops);
    for (size_t i = 0; i < count && c->ops; i++) {
        sparoa_node_info n;
        if (sparoa_session_node(c->job.session, i, &n)) continue;
        size_t k = 0;
        while (k < c->op_kinds &&
               (strcmp(c->ops[k].op, n.op) || strcmp(c->ops[k].domain, n.domain)))
            k++;
        if (k == c->op_kinds) c->ops[c->op_kinds++] = (op_count){n.op, n.domain, n.op_class, 0, 0};
        c->ops[k].nodes++;
        c->ops[k].flops += n.flops;
    }
    if (c->ops) qsort(c->ops, c->op_kinds, sizeof *c->ops, by_nodes);
}

/* Each step's fault is kept; the next step needs the one before. */
static void examine(check_command *c)
{
    sparoa_error err = {0};
    sp_job *job = &c->job;
    int64_t start = sp_cli_now_ns();
    const char *path = sp_feed_model(&c->feed);
    job->path = path ? path : "(built-in digits)";
    if (sp_job_runtime(c->cli, 0, &job->runtime, &err) ||
        sp_job_model(job->runtime, path, &job->model, &err)) {
        note_error(c, &err);
        return;
    }
    job->load_ns = sp_cli_now_ns() - start;
    c->loaded = true;
    sparoa_model_get_info(job->model, &c->model);
    start = sp_cli_now_ns();
    if (sparoa_session_create(job->model, NULL, &job->session, &err)) {
        note_error(c, &err);
        return;
    }
    job->create_ns = sp_cli_now_ns() - start;
    bool fed = !sp_feed_build(&c->feed, job->runtime, job->model, &job->inputs, &err);
    c->prepared =
        fed && !sparoa_session_prepare(job->session, job->inputs.items, job->inputs.count, &err);
    /* Sizes that were only guessed say nothing against the model. */
    c->guessed =
        !c->prepared && err.status == SPAROA_SHAPE_MISMATCH && (!fed || job->inputs.guessed[0]);
    if (!c->prepared && !c->guessed) note_error(c, &err);
    sparoa_session_get_info(job->session, &c->session);
    count_ops(c);
}

static void print_values(const check_command *c, const char *word, size_t count,
                         sparoa_status (*get)(const sparoa_model *, size_t, sparoa_value_info *))
{
    for (size_t i = 0; i < count; i++) {
        sparoa_value_info info;
        char shape[256];
        if (get(c->job.model, i, &info)) continue;
        sparoa_tensor tensor = sp_info_tensor(&info);
        printf("%-11s %s %s\n", word, info.name,
               sp_shape_text(shape, sizeof shape, &tensor, info.dim_names));
    }
}

static double mib(size_t bytes)
{
    return (double)bytes / 1048576;
}

static void print_text(const check_command *c)
{
    const sp_job *job = &c->job;
    printf("model       %s\n", job->path);
    if (c->loaded) {
        printf("producer    %s; IR version %lld, opset %lld\n",
               c->model.producer && *c->model.producer ? c->model.producer : "unknown",
               (long long)c->model.ir_version, (long long)c->model.opset);
        print_values(c, "input", sparoa_model_input_count(job->model), sparoa_model_input);
        print_values(c, "output", sparoa_model_output_count(job->model), sparoa_model_output);
        printf("parameters  %zu, constants of %.2f MiB\n", c->model.parameter_count,
               mib(c->model.weight_bytes));
    }
    if (job->session)
        printf("nodes       %zu in the file, %zu after optimisation\n", c->model.node_count,
               c->session.node_count);
    if (c->prepared) {
        printf("memory      weights prepared for kernels %.2f MiB, activations %.2f MiB (%.2f MiB "
               "without reuse)\n",
               mib(c->session.prepared_bytes), mib(c->session.activation_bytes),
               mib(c->session.unshared_bytes));
        printf("work        %.3f GFLOP a run\n", c->session.flops * 1e-9);
    }
    if (c->guessed)
        printf("memory      depends on sizes the model leaves open; give %s\n",
               job->inputs.guessed[0] ? job->inputs.guessed : "--shape NAME=...");
    if (c->op_kinds) {
        sp_table t;
        sp_table_init(&t, "<operator|<class|nodes|MFLOP");
        for (size_t i = 0; i < c->op_kinds; i++) {
            sp_table_add(&t, "%s%s%s", c->ops[i].domain, *c->ops[i].domain ? "::" : "",
                         c->ops[i].op);
            sp_table_add(&t, "%s", c->ops[i].op_class ? c->ops[i].op_class : "");
            sp_table_add(&t, "%lld", (long long)c->ops[i].nodes);
            sp_table_add(&t, "%.3f", c->ops[i].flops * 1e-6);
        }
        putchar('\n');
        sp_table_print(&t, stdout);
        putchar('\n');
        sp_table_free(&t);
    }
    for (size_t i = 0; i < c->error_count; i++)
        printf("error       [%s] %s%s%s\n", sparoa_status_name(c->errors[i].status),
               c->errors[i].node[0] ? c->errors[i].node : "", c->errors[i].node[0] ? ": " : "",
               c->errors[i].message);
    if (c->error_count == 0) printf("ok\n");
}

static void json_values(const check_command *c, sp_json *j, const char *key, size_t count,
                        sparoa_status (*get)(const sparoa_model *, size_t, sparoa_value_info *))
{
    sp_json_array(j, key);
    for (size_t i = 0; i < count; i++) {
        sparoa_value_info info;
        if (get(c->job.model, i, &info)) continue;
        sparoa_tensor tensor = sp_info_tensor(&info);
        sp_json_flat_object(j, NULL);
        sp_json_string(j, "name", info.name);
        sp_json_string(j, "dtype", sparoa_dtype_name(info.dtype));
        sp_shape_json(j, "shape", &tensor, info.dim_names);
        sp_json_end_object(j);
    }
    sp_json_end_array(j);
}

static bool print_json(const check_command *c)
{
    FILE *file = sp_cli_json_open(c->cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_json_string(&j, "command", "check");
    sp_json_string(&j, "version", sparoa_version());
    sp_json_string(&j, "model", c->job.path);
    sp_json_bool(&j, "ok", c->error_count == 0);
    sp_json_array(&j, "errors");
    for (size_t i = 0; i < c->error_count; i++) {
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "status", sparoa_status_name(c->errors[i].status));
        sp_json_string(&j, "node", c->errors[i].node[0] ? c->errors[i].node : NULL);
        sp_json_string(&j, "message", c->errors[i].message);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    if (c->loaded) {
        sp_json_string(&j, "producer", c->model.producer);
        sp_json_int(&j, "ir_version", c->model.ir_version);
        sp_json_int(&j, "opset", c->model.opset);
        sp_json_int(&j, "nodes", (int64_t)c->model.node_count);
        sp_json_int(&j, "parameters", (int64_t)c->model.parameter_count);
        sp_json_int(&j, "weight_bytes", (int64_t)c->model.weight_bytes);
        json_values(c, &j, "inputs", sparoa_model_input_count(c->job.model), sparoa_model_input);
        json_values(c, &j, "outputs", sparoa_model_output_count(c->job.model), sparoa_model_output);
    }
    if (c->job.session) {
        sp_json_bool(&j, "prepared", c->prepared);
        sp_json_int(&j, "optimised_nodes", (int64_t)c->session.node_count);
        sp_json_int(&j, "prepared_bytes", (int64_t)c->session.prepared_bytes);
        sp_json_int(&j, "activation_bytes", (int64_t)c->session.activation_bytes);
        sp_json_int(&j, "unshared_bytes", (int64_t)c->session.unshared_bytes);
        sp_json_number(&j, "flops", c->session.flops);
        sp_json_array(&j, "operators");
        for (size_t i = 0; i < c->op_kinds; i++) {
            sp_json_flat_object(&j, NULL);
            sp_json_string(&j, "op", c->ops[i].op);
            sp_json_string(&j, "domain", c->ops[i].domain);
            sp_json_string(&j, "class", c->ops[i].op_class);
            sp_json_int(&j, "nodes", c->ops[i].nodes);
            sp_json_number(&j, "flops", c->ops[i].flops);
            sp_json_end_object(&j);
        }
        sp_json_end_array(&j);
    }
    sp_json_end_object(&j);
    return sp_cli_json_close(c->cli, file);
}

int sp_cmd_check(sp_cli *cli, int argc, char **argv)
{
    check_command c = {.cli = cli};
    sp_arg rows[SP_FEED_ROWS];
    sp_feed_args(&c.feed, rows);
    int code = sp_cli_parse(cli, rows, NULL, argc, argv);
    if (code < 0) {
        examine(&c);
        if (sp_cli_text(cli)) print_text(&c);
        bool written = !cli->json_path || print_json(&c);
        code = written && c.error_count == 0 ? SP_EXIT_PASS : SP_EXIT_FAIL;
    }
    free(c.ops);
    sp_job_close(&c.job);
    sp_feed_free(&c.feed);
    return code;
}
