#include "cli/plan_job.h"

#include <string.h>

void sp_plan_job_args(sp_plan_job *p, sp_arg rows[SP_PLAN_JOB_ROWS])
{
    p->regime = "graph";
    p->objective = "latency";
    p->zero_runs = 1;
    sp_feed_args(&p->feed, rows);
    while (rows->kind != SP_ARG_END) rows++;
    const sp_arg table[] = {
        {SP_ARG_STRING, 'p', "platform", &p->platform_path, "FILE",
         "the machine, a platform file (needed)", 0, 0, NULL},
        {SP_ARG_CHOICE, 0, "regime", &p->regime, NULL,
         "operators launched one by one, or fused and replayed (default: graph)", 0, 0,
         "eager|graph"},
        {SP_ARG_CHOICE, 0, "objective", &p->objective, NULL, "what is minimised (default: latency)",
         0, 0, "latency|energy|product"},
        {SP_ARG_NUMBER, 0, "latency-limit", &p->latency_limit, "X",
         "take no plan slower than X times the fastest, 1 or more", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "split", &p->split, NULL,
         "divide heavy operators between devices where that pays", 0, 0, NULL},
        {SP_ARG_INT, 0, "plan-seed", &p->seed, "N", "seed of policies that learn (default: 0)", 0,
         INT64_MAX, NULL},
        {SP_ARG_INT, 0, "updates", &p->updates, "N",
         "gradient steps of what learns (default: policy sac 60 for each operator, 2000 to 8000; "
         "train scheduler 4000)",
         0, 10000000, NULL},
        {SP_ARG_STRING, 0, "mode", &p->mode, "NAME", "power mode of the platform", 0, 0, NULL},
        {SP_ARG_LIST, 0, "load", &p->loads, "DEVICE=X",
         "share of a device that other work takes, 0..0.95", 0, 0, NULL},
        {SP_ARG_LIST, 0, "clock", &p->clocks, "DEVICE=X",
         "clock that a device is set to, of the highest, 0.05..1", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "choose-clocks", &p->choose_clocks, NULL,
         "choose the clocks of host and accelerator too, for energy or product", 0, 0, NULL},
        {SP_ARG_LIST, 0, "pin", &p->pins, "NODE=DEVICE", "run a node there", 0, 0, NULL},
        {SP_ARG_LIST, 0, "forbid", &p->forbids, "NODE=DEVICE", "never run a node there", 0, 0,
         NULL},
        {SP_ARG_INT, 0, "zero-runs", &p->zero_runs, "N",
         "runs here that measure the zeros in activations, 0: taken as none (default: 1)", 0, 10000,
         NULL},
        {SP_ARG_STRING, 0, "measure", &p->measure, "DEVICE",
         "take the times of these runs, made on --device, for those of DEVICE of the platform", 0,
         0, NULL},
        {SP_ARG_STRING, 0, "predictor", &p->predictor_path, "FILE",
         "weights that predict thresholds (default: the shipped ones)", 0, 0, NULL},
        {SP_ARG_STRING, 0, "profile", &p->profile_path, "FILE",
         "write the profile as YAML, or as CSV or JSON if FILE ends in .csv or .json", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL}};
    _Static_assert(sizeof table / sizeof *table <= SP_PLAN_JOB_ROWS - SP_FEED_ROWS, "more rows");
    memcpy(rows, table, sizeof table);
}

static int parse_shares(sp_plan_job *p, const char *option, const sp_strings *list,
                        double load[SPAROA_MAX_DEVICES])
{
    for (size_t i = 0; i < list->count; i++) {
        const char *text = list->items[i], *equals = strchr(text, '=');
        size_t d = 0, n = equals ? (size_t)(equals - text) : 0;
        const char *name = NULL;
        while (equals && (name = sparoa_platform_device(p->platform, d)) &&
               !(strlen(name) == n && memcmp(name, text, n) == 0))
            d++;
        if (!name || !sp_parse_number(equals + 1, &load[d]))
            return sp_cli_fail(p->cli, SP_EXIT_USAGE, "--%s %s: expected DEVICE=SHARE", option,
                               text);
    }
    return -1;
}

/* What the session, which has the regime's graph, sees in the activations. */
static sparoa_status measure_zeros(sp_plan_job *p, sparoa_session *session, sparoa_error *err)
{
    sparoa_tensor outputs[64] = {{0}};
    size_t count = sparoa_model_output_count(p->job.model);
    if (count > 64) return SPAROA_OK;
    for (int64_t i = 0; i < p->zero_runs; i++) {
        memset(outputs, 0, sizeof outputs);
        sparoa_status status = sparoa_session_run(session, p->job.inputs.items, p->job.inputs.count,
                                                  outputs, count, err);
        if (status != SPAROA_OK) return status;
    }
    return sparoa_profile_measured(p->profile, session, p->measure, NULL, err);
}

/* In the graph regime of the graph that sessions run, so that they take the plan. A model that
 * cannot run here is planned without. */
static sparoa_status make_profile(sp_plan_job *p, sparoa_regime regime, sparoa_error *err)
{
    const sparoa_tensor *inputs = p->job.inputs.items;
    const size_t count = p->job.inputs.count;
    sparoa_session_options options = {.struct_size = sizeof options,
                                      .profile = 1,
                                      .disable_passes = sparoa_profile_passes(regime)};
    if (p->measure) sp_cli_device(p->cli, &options);
    sparoa_session *session = NULL;
    sparoa_error fault;
    const bool measured = p->zero_runs > 0;
    sparoa_status status, runs = SPAROA_OK;
    if (measured || regime == SPAROA_REGIME_GRAPH)
        runs = sparoa_session_create(p->job.model, &options, &session, &fault);
    if (session && regime == SPAROA_REGIME_GRAPH)
        status = sparoa_profile_of_session(session, inputs, count, &p->profile, err);
    else
        status = sparoa_profile_create(p->job.model, inputs, count, regime, &p->profile, err);
    if (status == SPAROA_OK && session && measured) runs = measure_zeros(p, session, &fault);
    if (status == SPAROA_OK && runs != SPAROA_OK && measured && !p->cli->quiet)
        fprintf(stderr, "zeros in activations%s are not known: %s\n",
                p->measure ? " and times" : "", fault.message);
    sparoa_session_destroy(session);
    return status;
}

int sp_plan_job_open(sp_plan_job *p)
{
    sparoa_error err;
    sparoa_regime regime =
        strcmp(p->regime, "eager") == 0 ? SPAROA_REGIME_EAGER : SPAROA_REGIME_GRAPH;
    if (!p->platform_path)
        return sp_cli_fail(p->cli, SP_EXIT_USAGE,
                           "--platform FILE is needed (see platforms/), or --device auto to "
                           "measure here");
    int code = sp_job_load(p->cli, &p->feed, &p->job);
    if (code >= 0) return code;
    if (sparoa_platform_load(p->job.runtime, p->platform_path, &p->platform, &err))
        return sp_cli_error(p->cli, p->platform_path, &err);
    if (sp_feed_build(&p->feed, p->job.runtime, p->job.model, &p->job.inputs, &err))
        return sp_cli_error(p->cli, p->job.path, &err);
    if (make_profile(p, regime, &err)) return sp_cli_error(p->cli, p->job.path, &err);
    if (p->profile_path && sparoa_profile_save(p->profile, p->profile_path, &err))
        return sp_cli_error(p->cli, p->profile_path, &err);
    if (p->predictor_path &&
        sparoa_predictor_load(p->job.runtime, p->predictor_path, &p->predictor, &err))
        return sp_cli_error(p->cli, p->predictor_path, &err);
    p->options = (sparoa_plan_options){.struct_size = sizeof p->options,
                                       .predictor = p->predictor,
                                       .mode = p->mode,
                                       .seed = (uint64_t)p->seed,
                                       .updates = (uint32_t)p->updates,
                                       .split = p->split,
                                       .choose_clocks = p->choose_clocks,
                                       .latency_limit = p->latency_limit,
                                       .pins = p->pins.items,
                                       .pin_count = p->pins.count,
                                       .forbids = p->forbids.items,
                                       .forbid_count = p->forbids.count};
    if (strcmp(p->objective, "energy") == 0) p->options.objective = SPAROA_OBJECTIVE_ENERGY;
    if (strcmp(p->objective, "product") == 0) p->options.objective = SPAROA_OBJECTIVE_PRODUCT;
    int fault = parse_shares(p, "load", &p->loads, p->options.load);
    return fault < 0 ? parse_shares(p, "clock", &p->clocks, p->options.clock) : fault;
}

void sp_plan_job_close(sp_plan_job *p)
{
    sparoa_predictor_destroy(p->predictor);
    sparoa_profile_destroy(p->profile);
    sparoa_platform_destroy(p->platform);
    sp_job_close(&p->job);
    sp_strings_free(&p->pins);
    sp_strings_free(&p->forbids);
    sp_strings_free(&p->loads);
    sp_strings_free(&p->clocks);
    sp_feed_free(&p->feed);
}
