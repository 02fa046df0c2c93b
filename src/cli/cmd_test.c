/* sparoa test: runs folders in ONNX's test layout. */
#include "cli/testrun.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct test_command {
    sp_cli *cli;
    sp_strings folders, filters;
    const char *manifest_path, *write_path, *index, *only, *inputs, *compare, *disable_passes;
    int64_t jobs, repeat;
    double rtol, atol, quant_step, timeout;
    bool quant, verbose, show_skips, reference, has_manifest;
    sp_test_options options;
    sp_testset set;
    sp_manifest manifest;
    sp_test_result *results;
    size_t passed, failed, skipped, fresh, missing;
} test_command;

/* With a manifest: a listed test must run and pass, and one it skips does not run. */
static void apply_manifest(const sp_test *test, sp_test_result *r)
{
    if (!test->listed || r->outcome != SP_SKIP) return;
    static const char prefix[] = "listed in the manifest, but ";
    size_t room = sizeof r->reason - sizeof prefix;
    memmove(r->reason + sizeof prefix - 1, r->reason, room);
    memcpy(r->reason, prefix, sizeof prefix - 1);
    r->reason[sizeof r->reason - 1] = 0;
    r->outcome = SP_FAIL;
}

static void report(void *user, const sp_test *test, const sp_test_result *result)
{
    static const char *const words[] = {"PASS", "FAIL", "SKIP"};
    test_command *t = user;
    sp_test_result *r = &t->results[result - t->results];
    apply_manifest(test, r);
    if (r->outcome == SP_PASS)
        t->passed++;
    else if (r->outcome == SP_FAIL)
        t->failed++;
    else
        t->skipped++;
    bool fresh = t->has_manifest && r->outcome == SP_PASS && !test->listed;
    t->fresh += fresh;
    if (!sp_cli_text(t->cli)) return;
    bool shown = r->outcome == SP_FAIL || t->verbose || (r->outcome == SP_SKIP && t->show_skips);
    if (r->outcome == SP_PASS && shown)
        printf("PASS %s: %d sets, max error %.3g, scaled %.3g, %.1f ms%s\n", test->name,
               (int)r->sets, r->max_error, r->scaled_error, (double)r->ns * 1e-6,
               fresh ? " (new)" : "");
    else if (shown)
        printf("%s %s: %s\n", words[r->outcome], test->name, r->reason);
    else if (fresh && !t->cli->quiet)
        printf("NEW  %s passes and is not in the manifest\n", test->name);
}

static bool matches(const test_command *t, const char *name)
{
    if (t->filters.count == 0) return true;
    const char *slash = strrchr(name, '/');
    for (size_t i = 0; i < t->filters.count; i++)
        if (!fnmatch(t->filters.items[i], name, 0) ||
            (slash && !fnmatch(t->filters.items[i], slash + 1, 0)))
            return true;
    return false;
}

/* Tests that the manifest names and the folders lack are failures: else a renamed test would
 * vanish. */
static void count_missing(test_command *t)
{
    for (size_t i = 0; i < t->manifest.count; i++) {
        const sp_manifest_row *row = &t->manifest.rows[i];
        if (row->found || row->kind != SP_MANIFEST_PASS || !matches(t, row->name)) continue;
        t->missing++;
        t->failed++;
        if (sp_cli_text(t->cli))
            printf("FAIL %s: listed in the manifest, but there is no such test\n", row->name);
    }
}

static bool write_manifest(const test_command *t)
{
    FILE *file = fopen(t->write_path, "w");
    if (!file) return false;
    fprintf(file, "# Tests that pass, written by sparoa test --write-manifest.\n");
    for (size_t i = 0; i < t->manifest.count; i++) {
        const sp_manifest_row *row = &t->manifest.rows[i];
        if (row->kind == SP_MANIFEST_SKIP) fprintf(file, "skip %s: %s\n", row->name, row->reason);
        if (row->kind == SP_MANIFEST_QUANT) fprintf(file, "quant %s: %s\n", row->name, row->reason);
    }
    for (size_t i = 0; i < t->set.count; i++)
        if (t->results[i].done && t->results[i].outcome == SP_PASS)
            fprintf(file, "%s\n", t->set.items[i].name);
    bool good = !ferror(file);
    return fclose(file) == 0 && good;
}

static bool write_json(const test_command *t)
{
    static const char *const words[] = {"pass", "fail", "skip"};
    FILE *file = sp_cli_json_open(t->cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_json_string(&j, "command", "test");
    sp_json_string(&j, "version", sparoa_version());
    sp_json_string(&j, "root", t->set.root);
    sp_json_int(&j, "passed", (int64_t)t->passed);
    sp_json_int(&j, "failed", (int64_t)t->failed);
    sp_json_int(&j, "skipped", (int64_t)t->skipped);
    sp_json_int(&j, "new", (int64_t)t->fresh);
    sp_json_array(&j, "tests");
    for (size_t i = 0; i < t->set.count; i++) {
        const sp_test_result *r = &t->results[i];
        if (!r->done) continue;
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "name", t->set.items[i].name);
        sp_json_string(&j, "outcome", words[r->outcome]);
        sp_json_string(&j, "reason", r->outcome == SP_PASS ? NULL : r->reason);
        sp_json_int(&j, "sets", r->sets);
        sp_json_number(&j, "max_error", r->max_error);
        sp_json_number(&j, "scaled_error", r->scaled_error);
        sp_json_number(&j, "ms", (double)r->ns * 1e-6);
        sp_json_bool(&j, "new",
                     t->has_manifest && r->outcome == SP_PASS && !t->set.items[i].listed);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_array(&j, "missing");
    for (size_t i = 0; i < t->manifest.count; i++)
        if (!t->manifest.rows[i].found && t->manifest.rows[i].kind == SP_MANIFEST_PASS &&
            matches(t, t->manifest.rows[i].name))
            sp_json_string(&j, NULL, t->manifest.rows[i].name);
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    return sp_cli_json_close(t->cli, file);
}

static int select_tests(test_command *t)
{
    char error[512];
    if (!sp_testset_find(&t->set, &t->folders, t->inputs, error, sizeof error))
        return sp_cli_fail(t->cli, SP_EXIT_USAGE, "%s", error);
    if (t->has_manifest) {
        if (!sp_manifest_read(&t->manifest, t->manifest_path, error, sizeof error))
            return sp_cli_fail(t->cli, SP_EXIT_USAGE, "%s", error);
        sp_manifest_apply(&t->manifest, &t->set);
    }
    if (!strcmp(t->only, "core")) {
        if (!t->index) return sp_cli_fail(t->cli, SP_EXIT_USAGE, "--only core needs --index FILE");
        if (!sp_index_apply(t->index, &t->set, error, sizeof error))
            return sp_cli_fail(t->cli, SP_EXIT_USAGE, "%s", error);
    }
    for (size_t i = 0; i < t->set.count; i++)
        if (!matches(t, t->set.items[i].name)) t->set.items[i].selected = false;
    t->results = calloc(t->set.count + 1, sizeof *t->results);
    if (!t->results)
        return sp_cli_fail(t->cli, SP_EXIT_FAIL, "no memory for %zu tests", t->set.count);
    return -1;
}

/* Tests that the manifest skips are counted here and do not run. */
static void skip_listed(test_command *t)
{
    for (size_t i = 0; i < t->set.count; i++) {
        sp_test *test = &t->set.items[i];
        if (!test->selected || !test->skip) continue;
        test->selected = false;
        test->listed = false;
        sp_test_result *r = &t->results[i];
        r->outcome = SP_SKIP;
        r->done = true;
        snprintf(r->reason, sizeof r->reason, "%s", test->skip);
        report(t, test, r);
    }
}

static int run_tests(test_command *t)
{
    int code = select_tests(t);
    if (code >= 0) return code;
    skip_listed(t);
    if (!sp_tests_run(t->cli, &t->set, &t->options, t->results, report, t)) return SP_EXIT_FAIL;
    count_missing(t);
    if (t->write_path && !write_manifest(t))
        return sp_cli_fail(t->cli, SP_EXIT_FAIL, "cannot write %s", t->write_path);
    bool good = t->failed == 0;
    if (t->passed + t->failed + t->skipped == 0)
        return sp_cli_fail(t->cli, SP_EXIT_FAIL, "no tests found");
    if (t->cli->json_path) good = write_json(t) && good;
    if (sp_cli_text(t->cli)) {
        if (t->fresh) printf("%zu new: they pass and are not in the manifest\n", t->fresh);
        printf("%zu passed, %zu failed, %zu skipped\n", t->passed, t->failed, t->skipped);
    }
    return good ? SP_EXIT_PASS : SP_EXIT_FAIL;
}

static int set_options(test_command *t)
{
    sp_compare_mode mode = strcmp(t->compare, "scaled") ? SP_COMPARE_ONNX : SP_COMPARE_SCALED;
    t->options.tolerance = sp_tolerance_default(mode);
    if (t->rtol >= 0) t->options.tolerance.rtol = t->rtol;
    if (t->atol >= 0) t->options.tolerance.atol = t->atol;
    t->options.tolerance.quant = t->quant;
    t->options.tolerance.quant_step = t->quant_step;
    t->options.disable_passes = t->disable_passes;
    t->options.cli = t->cli;
    t->options.reference = t->reference;
    t->options.verbose = t->verbose;
    t->options.repeat = t->repeat;
    long cores = t->cli->plugin ? 1 : sysconf(_SC_NPROCESSORS_ONLN); /* a device is one */
    t->options.jobs = t->jobs >= 0 ? t->jobs : cores > 0 ? cores : 1;
    t->options.threads = t->cli->threads > 0 ? (int32_t)t->cli->threads : 1;
    t->options.timeout = t->timeout;
    t->has_manifest = t->manifest_path != NULL;
    if (t->timeout <= 0) return sp_cli_fail(t->cli, SP_EXIT_USAGE, "--timeout must be above 0");
    return -1;
}

int sp_cmd_test(sp_cli *cli, int argc, char **argv)
{
    test_command t = {.cli = cli,
                      .compare = "onnx",
                      .only = "all",
                      .jobs = -1,
                      .repeat = 1,
                      .rtol = -1,
                      .atol = -1,
                      .timeout = 60};
    const sp_arg table[] = {
        {SP_ARG_REST, 0, NULL, &t.folders, "DIR...", "folders with tests, searched recursively", 1,
         0, NULL},
        {SP_ARG_CHOICE, 0, "compare", &t.compare, NULL,
         "per element, or relative to the output's largest value", 0, 0, "onnx|scaled"},
        {SP_ARG_NUMBER, 0, "rtol", &t.rtol, "X",
         "relative tolerance (default: onnx 1e-3, scaled 1e-4)", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "atol", &t.atol, "X", "absolute tolerance (default: 1e-7)", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "quant", &t.quant, NULL,
         "quantised models: one step allowed, same arg-max", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "quant-step", &t.quant_step, "X",
         "the step of float outputs (default: found)", 0, 0, NULL},
        {SP_ARG_STRING, 'm', "manifest", &t.manifest_path, "FILE",
         "tests that must pass, tests to skip", 0, 0, NULL},
        {SP_ARG_STRING, 0, "write-manifest", &t.write_path, "FILE", "write the tests that pass", 0,
         0, NULL},
        {SP_ARG_LIST, 'f', "filter", &t.filters, "GLOB",
         "only tests whose path or last part matches", 0, 0, NULL},
        {SP_ARG_STRING, 0, "index", &t.index, "FILE", "INDEX.tsv of the tests, for --only", 0, 0,
         NULL},
        {SP_ARG_CHOICE, 0, "only", &t.only, NULL, "core: rows with core_float_runtime=yes", 0, 0,
         "core|all"},
        {SP_ARG_STRING, 0, "inputs", &t.inputs, "DIR",
         "inputs of light models (default: FOLDER-inputs)", 0, 0, NULL},
        {SP_ARG_INT, 'j', "jobs", &t.jobs, "N",
         "tests at once (default: one per core, 1 with --plugin; 0: no processes)", 0, 1024, NULL},
        {SP_ARG_NUMBER, 0, "timeout", &t.timeout, "SECONDS", "limit for one test (default: 60)", 0,
         0, NULL},
        {SP_ARG_INT, 0, "repeat", &t.repeat, "N", "run each data set N times", 1, 1000000, NULL},
        {SP_ARG_FLAG, 0, "reference", &t.reference, NULL, "use the plain kernels", 0, 0, NULL},
        {SP_ARG_STRING, 0, "disable-passes", &t.disable_passes, "LIST",
         "graph passes to leave out, or all", 0, 0, NULL},
        {SP_ARG_FLAG, 's', "show-skips", &t.show_skips, NULL, "print skipped tests", 0, 0, NULL},
        {SP_ARG_FLAG, 'v', "verbose", &t.verbose, NULL,
         "print every test and the library's warnings", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, table, NULL, argc, argv);
    if (code < 0) code = set_options(&t);
    if (code < 0) code = run_tests(&t);
    free(t.results);
    sp_manifest_free(&t.manifest);
    sp_testset_free(&t.set);
    sp_strings_free(&t.folders);
    sp_strings_free(&t.filters);
    return code;
}
