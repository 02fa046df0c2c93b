#include "cli/testrun.h"

#include <stdlib.h>
#include <string.h>

/* What one test holds while it runs. */
typedef struct trial {
    const sp_test *test;
    const sp_test_options *options;
    sparoa_runtime *runtime; /* the host's */
    sparoa_model *model;
    sparoa_session *session;
    size_t input_count, output_count;
    sparoa_tensor *inputs, *outputs;
    bool *given; /* inputs that the data set has */
    sp_test_result result;
} trial;

static bool stop(trial *b, sp_outcome outcome, const char *where, const char *what)
{
    b->result.outcome = outcome;
    snprintf(b->result.reason, sizeof b->result.reason, "%s%s%s", where, *where ? ": " : "", what);
    return false;
}

static bool stop_error(trial *b, const char *where, const sparoa_error *err, bool may_skip)
{
    bool unsupported = err->status == SPAROA_UNSUPPORTED_OP ||
                       err->status == SPAROA_UNSUPPORTED_TYPE ||
                       err->status == SPAROA_UNSUPPORTED_VERSION;
    char what[sizeof err->message + sizeof err->node + 64];
    if (err->node[0] && !strstr(err->message, err->node))
        snprintf(what, sizeof what, "node %s: %s [%s]", err->node, err->message,
                 sparoa_status_name(err->status));
    else
        snprintf(what, sizeof what, "%s [%s]", err->message, sparoa_status_name(err->status));
    return stop(b, may_skip && unsupported ? SP_SKIP : SP_FAIL, where, what);
}

static void log_line(void *user, sparoa_log_level level, const char *text)
{
    const sp_test_host *host = user;
    (void)level;
    fprintf(stderr, "%s: %s\n", host->test, text);
}

static sparoa_status open_host(sp_test_host *host, const sp_test_options *o, sparoa_error *err)
{
    sparoa_runtime_options runtime = {.struct_size = sizeof runtime, .threads = o->threads};
    if (o->verbose) {
        runtime.log = log_line;
        runtime.log_user = host;
    }
    sparoa_status status = sparoa_runtime_create(&runtime, &host->runtime, err);
    if (status == SPAROA_OK) status = sp_cli_plugin(o->cli, host->runtime, err);
    if (status != SPAROA_OK) sp_test_host_close(host);
    return status;
}

void sp_test_host_close(sp_test_host *host)
{
    sparoa_runtime_destroy(host->runtime);
    host->runtime = NULL;
}

static bool prepare(trial *b, sp_test_host *host)
{
    sparoa_error err = {0};
    sparoa_session_options session = {.struct_size = sizeof session,
                                      .disable_passes = b->options->disable_passes,
                                      .reference = b->options->reference};
    sp_cli_device(b->options->cli, &session);
    host->test = b->test->name;
    if (!host->runtime && open_host(host, b->options, &err))
        return stop_error(b, "runtime", &err, false);
    b->runtime = host->runtime;
    if (sparoa_model_load(b->runtime, b->test->path, NULL, &b->model, &err))
        return stop_error(b, "load", &err, true);
    if (sparoa_session_create(b->model, &session, &b->session, &err))
        return stop_error(b, "session", &err, true);
    b->input_count = sparoa_model_input_count(b->model);
    b->output_count = sparoa_model_output_count(b->model);
    b->inputs = calloc(b->input_count + 1, sizeof *b->inputs);
    b->given = calloc(b->input_count + 1, sizeof *b->given);
    b->outputs = calloc(b->output_count + 1, sizeof *b->outputs);
    if (!b->inputs || !b->given || !b->outputs) return stop(b, SP_FAIL, "", "no memory");
    return true;
}

static void drop_inputs(trial *b)
{
    for (size_t i = 0; i < b->input_count; i++)
        if (b->given[i]) {
            sparoa_tensor_free(b->runtime, &b->inputs[i]);
            b->given[i] = false;
        }
}

static size_t input_named(const trial *b, const char *name)
{
    sparoa_value_info info;
    for (size_t i = 0; *name && i < b->input_count; i++)
        if (!sparoa_model_input(b->model, i, &info) && !strcmp(info.name, name)) return i;
    return b->input_count;
}

/* Reads one file into the input of its name, or, on the second round, into the first one still
 * empty. Files of initialisers that old models list as inputs have a name that is no input, and are
 * left out. */
static bool read_input(trial *b, const char *set, const char *file, bool by_name)
{
    char where[300], name[256] = "";
    sparoa_error err = {0};
    sparoa_tensor tensor = {0};
    char *path = sp_text("%s/%s/%s", b->test->data, set, file);
    if (!path) return stop(b, SP_FAIL, "", "no memory");
    sparoa_status status =
        sparoa_tensor_load_pb(b->runtime, path, &tensor, name, sizeof name, &err);
    free(path);
    snprintf(where, sizeof where, "%s/%s", set, file);
    if (status) return stop_error(b, where, &err, true);
    size_t at = input_named(b, name);
    bool named = at < b->input_count;
    if (!by_name && !named)
        for (at = 0; at < b->input_count && b->given[at];) at++;
    if (named == by_name && at < b->input_count && !b->given[at]) {
        b->inputs[at] = tensor;
        b->given[at] = true;
        return true;
    }
    sparoa_tensor_free(b->runtime, &tensor);
    if (!by_name && !named && !*name)
        return stop(b, SP_FAIL, where, "the model has no input left for it");
    return true;
}

static bool read_inputs(trial *b, const char *set)
{
    sp_files files;
    char *folder = sp_text("%s/%s", b->test->data, set);
    bool good = folder && sp_files_list(&files, folder, "input_*.pb");
    free(folder);
    if (!good) return stop(b, SP_FAIL, set, "cannot be read");
    for (size_t i = 0; i < files.count && good; i++)
        good = read_input(b, set, files.items[i], true);
    size_t given = 0;
    for (size_t i = 0; i < b->input_count; i++) given += b->given[i];
    for (size_t i = 0; i < files.count && good && given < files.count; i++)
        good = read_input(b, set, files.items[i], false);
    sp_files_free(&files);
    return good;
}

/* Compares one expected output with what the run gave. */
static bool check_output(trial *b, const char *path, const char *set, size_t index)
{
    char where[400];
    sparoa_error err = {0};
    sparoa_tensor want = {0};
    sparoa_value_info info = {.name = "?"};
    if (index >= b->output_count) {
        snprintf(where, sizeof where, "%s/output_%zu.pb", set, index);
        return stop(b, SP_FAIL, where, "the model has no such output");
    }
    sparoa_model_output(b->model, index, &info);
    snprintf(where, sizeof where, "%s output %zu '%.200s'", set, index, info.name);
    if (sparoa_tensor_load_pb(b->runtime, path, &want, NULL, 0, &err))
        return stop_error(b, where, &err, true);
    sp_tolerance tolerance = b->options->tolerance;
    if (b->test->quant_steps > 0) {
        tolerance.quant = true;
        tolerance.quant_steps = b->test->quant_steps;
    }
    sp_difference d = sp_compare(&b->outputs[index], &want, &tolerance);
    if (d.max_error > b->result.max_error) b->result.max_error = d.max_error;
    if (d.scaled_error > b->result.scaled_error) b->result.scaled_error = d.scaled_error;
    sparoa_tensor_free(b->runtime, &want);
    return d.same ? true : stop(b, SP_FAIL, where, d.reason);
}

static bool check_outputs(trial *b, const char *set)
{
    sp_files files;
    char *folder = sp_text("%s/%s", b->test->data, set);
    bool good = folder && sp_files_list(&files, folder, "output_*.pb");
    if (!good) {
        free(folder);
        return stop(b, SP_FAIL, set, "cannot be read");
    }
    for (size_t i = 0; i < files.count && good; i++) {
        int64_t index;
        char number[24];
        snprintf(number, sizeof number, "%.*s", (int)strcspn(files.items[i] + 7, "."),
                 files.items[i] + 7);
        if (!sp_parse_int(number, &index) || index < 0) continue;
        char *path = sp_text("%s/%s", folder, files.items[i]);
        good = path ? check_output(b, path, set, (size_t)index) : stop(b, SP_FAIL, "", "no memory");
        free(path);
    }
    if (good && b->test->output)
        good = check_output(b, b->test->output, set, 0);
    else if (good && files.count == 0)
        good = stop(b, SP_FAIL, set, "has no output_*.pb");
    sp_files_free(&files);
    free(folder);
    return good;
}

static bool run_set(trial *b, const char *set)
{
    if (!read_inputs(b, set)) return false;
    /* A set may leave out the last inputs. */
    size_t count = b->input_count;
    while (count > 0 && !b->given[count - 1]) count--;
    for (int64_t i = 0; i < b->options->repeat; i++) {
        sparoa_error err = {0};
        memset(b->outputs, 0, b->output_count * sizeof *b->outputs);
        if (sparoa_session_run(b->session, b->inputs, count, b->outputs, b->output_count, &err))
            return stop_error(b, set, &err, false);
        if (!check_outputs(b, set)) return false;
    }
    return true;
}

static void run_sets(trial *b)
{
    sp_files sets;
    if (!sp_files_list(&sets, b->test->data, "test_data_set_*") || sets.count == 0) {
        stop(b, SP_FAIL, b->test->data, "there is no test_data_set_* in this folder");
        return;
    }
    bool good = true;
    for (size_t i = 0; i < sets.count && good; i++) {
        good = run_set(b, sets.items[i]);
        drop_inputs(b);
        if (good) b->result.sets++;
    }
    sp_files_free(&sets);
}

/* A run that the CPU did in a device's place says nothing about the device. */
static void check_fallbacks(trial *b)
{
    const char *fallback = b->options->cli->fallback;
    if (!b->session || sparoa_session_fallbacks(b->session) == 0) return;
    b->result.spoilt = true;
    if (b->result.outcome == SP_PASS && !(fallback && !strcmp(fallback, "allow")))
        stop(b, SP_FAIL, "", "the device failed, and the run was done again on the cpu");
}

sp_test_result sp_test_execute(sp_test_host *host, const sp_test *test,
                               const sp_test_options *options)
{
    trial b = {.test = test, .options = options};
    int64_t start = sp_cli_now_ns();
    if (prepare(&b, host)) run_sets(&b);
    check_fallbacks(&b);
    sparoa_session_destroy(b.session);
    sparoa_model_destroy(b.model);
    free(b.inputs);
    free(b.given);
    free(b.outputs);
    b.result.ns = sp_cli_now_ns() - start;
    b.result.done = true;
    b.result.spoilt |= b.result.outcome == SP_FAIL;
    return b.result;
}
