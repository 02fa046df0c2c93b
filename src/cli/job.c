#include "cli/job.h"

#include "cli/embedded.h"
#include "cli/npy.h"

#include <stdlib.h>
#include <string.h>

#define TRACE_EVENTS 200000

static void log_line(void *user, sparoa_log_level level, const char *text)
{
    (void)user;
    const char *what = level == SPAROA_LOG_ERROR  ? "error"
                       : level == SPAROA_LOG_WARN ? "warning"
                       : level == SPAROA_LOG_INFO ? "info"
                                                  : "debug";
    fprintf(stderr, "%s: %s\n", what, text);
}

sparoa_status sp_job_runtime(const sp_cli *cli, int32_t threads, sparoa_runtime **runtime,
                             sparoa_error *err)
{
    sparoa_runtime_options options = {.struct_size = sizeof options};
    options.threads = threads > 0 ? threads : (int32_t)cli->threads;
    if (!cli->quiet) options.log = log_line;
    sparoa_status status = sparoa_runtime_create(&options, runtime, err);
    return status ? status : sp_cli_plugin(cli, *runtime, err);
}

sparoa_status sp_job_model(sparoa_runtime *runtime, const char *path, sparoa_model **model,
                           sparoa_error *err)
{
    if (path) return sparoa_model_load(runtime, path, NULL, model, err);
    if (sp_cli_digits_model_size > 0)
        return sparoa_model_load_memory(runtime, sp_cli_digits_model, sp_cli_digits_model_size,
                                        NULL, model, err);
    return sp_cli_error_set(err, SPAROA_NOT_FOUND,
                            "no model is given, and this build carries none: name an .onnx file");
}

const char *sp_feed_model(const sp_feed *feed)
{
    return feed->models.count ? feed->models.items[0] : NULL;
}

int sp_job_load(const sp_cli *cli, const sp_feed *feed, sp_job *job)
{
    sparoa_error err = {0};
    const char *path = sp_feed_model(feed);
    *job = (sp_job){.path = path ? path : "(built-in digits)"};
    int64_t start = sp_cli_now_ns();
    if (sp_job_runtime(cli, 0, &job->runtime, &err)) return sp_cli_error(cli, "runtime", &err);
    if (sp_job_model(job->runtime, path, &job->model, &err))
        return sp_cli_error(cli, job->path, &err);
    job->load_ns = sp_cli_now_ns() - start;
    job->output_count = sparoa_model_output_count(job->model);
    job->outputs = calloc(job->output_count + 1, sizeof *job->outputs);
    return job->outputs ? -1 : sp_cli_fail(cli, SP_EXIT_FAIL, "no memory");
}

int sp_job_plan(const sp_cli *cli, sp_job *job)
{
    sparoa_error err = {0};
    if (!cli->plan || job->plan) return -1;
    if (sparoa_plan_load(job->runtime, cli->plan, &job->plan, &err))
        return sp_cli_error(cli, cli->plan, &err);
    return -1;
}

int sp_job_session(const sp_cli *cli, const sparoa_session_options *options, sp_job *job)
{
    sparoa_error err = {0};
    int code = sp_job_plan(cli, job);
    if (code >= 0) return code;
    int64_t start = sp_cli_now_ns();
    sparoa_session_options placed = *options;
    sp_cli_device(cli, &placed);
    placed.plan = job->plan;
    if (sparoa_session_create(job->model, &placed, &job->session, &err))
        return sp_cli_error(cli, job->path, &err);
    job->create_ns = sp_cli_now_ns() - start;
    return -1;
}

int sp_job_fault(const sp_cli *cli, const sp_job *job, const char *what, const sparoa_error *err)
{
    int code = sp_cli_error(cli, what, err);
    if (err->status == SPAROA_SHAPE_MISMATCH && job->inputs.guessed[0])
        fprintf(stderr, "hint: dimensions that the model leaves open were taken as 1; give %s\n",
                job->inputs.guessed);
    return code;
}

int sp_job_inputs(const sp_cli *cli, const sp_feed *feed, sp_job *job)
{
    sparoa_error err = {0};
    if (sp_feed_build(feed, job->runtime, job->model, &job->inputs, &err)) {
        bool usage = err.status == SPAROA_INVALID_ARGUMENT;
        sp_cli_error(cli, "inputs", &err);
        return usage ? SP_EXIT_USAGE : SP_EXIT_FAIL;
    }
    int64_t start = sp_cli_now_ns();
    if (sparoa_session_prepare(job->session, job->inputs.items, job->inputs.count, &err))
        return sp_job_fault(cli, job, job->path, &err);
    job->prepare_ns = sp_cli_now_ns() - start;
    return -1;
}

int sp_job_run(const sp_cli *cli, sp_job *job)
{
    sparoa_error err = {0};
    memset(job->outputs, 0, job->output_count * sizeof *job->outputs);
    if (sparoa_session_run(job->session, job->inputs.items, job->inputs.count, job->outputs,
                           job->output_count, &err))
        return sp_job_fault(cli, job, "run", &err);
    return -1;
}

int sp_job_trace(const sp_cli *cli, const sp_job *job, const char *path)
{
    sparoa_error err = {0};
    if (!path || !sparoa_trace_start(job->runtime, TRACE_EVENTS, &err)) return -1;
    return sp_cli_error(cli, "trace", &err);
}

int sp_job_trace_save(const sp_cli *cli, const sp_job *job, const char *path)
{
    sparoa_error err = {0};
    size_t dropped = 0;
    if (!path) return -1;
    sparoa_trace_stop(job->runtime);
    sparoa_trace_events(job->runtime, &dropped);
    if (dropped && !cli->quiet)
        fprintf(stderr, "warning: the trace was full: the last %zu events are missing\n", dropped);
    return sparoa_trace_save(job->runtime, path, &err) ? sp_cli_error(cli, "trace", &err) : -1;
}

void sp_job_close(sp_job *job)
{
    sp_inputs_free(&job->inputs);
    sparoa_session_destroy(job->session);
    sparoa_plan_destroy(job->plan);
    sparoa_model_destroy(job->model);
    sparoa_runtime_destroy(job->runtime);
    free(job->outputs);
    *job = (sp_job){0};
}

sparoa_tensor sp_info_tensor(const sparoa_value_info *info)
{
    sparoa_tensor tensor = {.dtype = info->dtype, .rank = info->rank};
    memcpy(tensor.dims, info->dims, sizeof tensor.dims);
    return tensor;
}

void sp_job_json(sp_json *j, const sp_cli *cli, const sp_job *job)
{
    sp_json_string(j, "command", cli->command);
    sp_json_string(j, "version", sparoa_version());
    sp_json_string(j, "model", job->path);
    sp_json_int(j, "threads", sparoa_runtime_threads(job->runtime));
    sp_json_number(j, "load_ms", (double)job->load_ns * 1e-6);
    sp_json_number(j, "create_ms", (double)job->create_ns * 1e-6);
    sp_json_number(j, "prepare_ms", (double)job->prepare_ns * 1e-6);
}
