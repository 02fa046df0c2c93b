#include "cli/choice.h"

#include <string.h>

#include "cli/table.h"

static bool automatic(const sp_cli *cli)
{
    return cli->device && strcmp(cli->device, "auto") == 0;
}

static const char *source_name(sparoa_choice_source source)
{
    static const char *const names[] = {"none",    "measured", "cached",
                                        "nearest", "failed",   "watched"};
    return (unsigned)source < sizeof names / sizeof *names ? names[source] : "unknown";
}

static const char *cache_name(sparoa_cache_state state)
{
    static const char *const names[] = {"none",          "absent",        "used",
                                        "damaged",       "other_library", "other_model",
                                        "other_machine", "other_threads", "other_options"};
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "unknown";
}

int sp_job_tune(const sp_cli *cli, sp_job *job)
{
    sparoa_error err;
    sparoa_choice choice;
    const sp_inputs *in = &job->inputs;
    if (!automatic(cli)) return -1;
    if (sparoa_session_choice(job->session, in->items, in->count, &choice, &err))
        return sp_cli_error(cli, "auto", &err);
    if (choice.source == SPAROA_CHOICE_CACHED) return -1;
    if (sparoa_session_tune(job->session, in->items, in->count, 0, &err))
        return sp_job_fault(cli, job, "auto", &err);
    return -1;
}

static bool get(const sp_cli *cli, const sp_job *job, sparoa_choice *choice)
{
    return automatic(cli) && sparoa_session_choice(job->session, job->inputs.items,
                                                   job->inputs.count, choice, NULL) == SPAROA_OK;
}

void sp_choice_print(const sp_cli *cli, const sp_job *job)
{
    sparoa_choice c;
    sp_table t;
    if (!get(cli, job, &c)) return;
    sp_table_init(&t, "<candidate|ms|of the cpu's|spread|predicted ms|rounds|nodes there|<verdict");
    for (int32_t i = 0; i < c.candidate_count; i++) {
        const sparoa_candidate *k = &c.candidates[i];
        sp_table_add(&t, "%s", k->name);
        sp_table_add(&t, k->median_ns > 0 ? "%.3f" : "-", k->median_ns * 1e-6);
        sp_table_add(&t, k->ratio > 0 ? "%.3f" : "-", k->ratio);
        sp_table_add(&t, k->ratio > 0 ? "%.3f" : "-", k->spread);
        sp_table_add(&t, k->predicted_ns > 0 ? "%.3f" : "-", k->predicted_ns * 1e-6);
        sp_table_add(&t, "%d", (int)k->rounds);
        sp_table_add(&t, "%d", (int)k->nodes);
        sp_table_add(&t, "%s", k->verdict);
    }
    sp_table_print(&t, stdout);
    sp_table_free(&t);
    printf("auto   %s: %s (%s", c.chosen, c.reason, source_name(c.source));
    if (c.tune_ns > 0) printf(" in %.2f s", c.tune_ns * 1e-9);
    if (c.cache != SPAROA_CACHE_NONE) printf("; cache %s", cache_name(c.cache));
    printf("%s%s)\n", c.cache_reason[0] ? ": " : "", c.cache_reason);
}

void sp_choice_json(sp_json *j, const sp_cli *cli, const sp_job *job)
{
    sparoa_choice c;
    if (!get(cli, job, &c)) return;
    sp_json_object(j, "auto");
    sp_json_string(j, "chosen", c.chosen);
    sp_json_string(j, "reason", c.reason);
    sp_json_string(j, "source", source_name(c.source));
    sp_json_string(j, "cache", cache_name(c.cache));
    sp_json_string(j, "cache_reason", c.cache_reason);
    sp_json_number(j, "tune_ms", c.tune_ns * 1e-6);
    sp_json_array(j, "candidates");
    for (int32_t i = 0; i < c.candidate_count; i++) {
        const sparoa_candidate *k = &c.candidates[i];
        sp_json_flat_object(j, NULL);
        sp_json_string(j, "name", k->name);
        sp_json_number(j, "median_us", k->median_ns * 1e-3);
        sp_json_number(j, "ratio", k->ratio);
        sp_json_number(j, "spread", k->spread);
        sp_json_number(j, "predicted_us", k->predicted_ns * 1e-3);
        sp_json_int(j, "rounds", k->rounds);
        sp_json_int(j, "nodes", k->nodes);
        sp_json_string(j, "verdict", k->verdict);
        sp_json_end_object(j);
    }
    sp_json_end_array(j);
    sp_json_end_object(j);
}
