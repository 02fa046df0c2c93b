/* sparoa train: the threshold predictor, from a corpus, or fine-tuned to one machine. */
#include "cli/cli.h"
#include "cli/table.h"
#include "sparoa_schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PLATFORMS = 16, MOST_SCORES = 32 };

typedef struct train_command {
    sp_cli *cli;
    sp_strings platforms, finetune;
    const char *corpus, *output, *network, *hold_out, *start, *mode;
    int64_t epochs, seed, inventions;
    bool compare;
    int64_t begin_ns;
    sparoa_runtime *runtime;
    sparoa_predictor *predictor;
    sparoa_platform *loaded[MOST_PLATFORMS];
    sparoa_profile **profiles;
    sparoa_training_options options;
    sparoa_predictor_score scores[MOST_SCORES];
    size_t score_count;
} train_command;

static int32_t progress(void *user, uint32_t epoch, double error)
{
    const train_command *c = user;
    sp_cli_progress(c->cli, c->begin_ns, "epoch %u, mean error %.4f, %.0f s", epoch, error,
                    (double)(sp_cli_now_ns() - c->begin_ns) * 1e-9);
    return 0;
}

static int open_files(train_command *c)
{
    sparoa_error err;
    const char *corpus = c->corpus ? c->corpus : "models/predictor/corpus.tsv";
    if (!c->platforms.count)
        return sp_cli_fail(c->cli, SP_EXIT_USAGE, "--platform FILE is needed (see platforms/)");
    if (c->platforms.count > MOST_PLATFORMS)
        return sp_cli_fail(c->cli, SP_EXIT_USAGE, "at most %d platforms", MOST_PLATFORMS);
    if (sparoa_runtime_create(NULL, &c->runtime, &err))
        return sp_cli_error(c->cli, "runtime", &err);
    for (size_t i = 0; i < c->platforms.count; i++)
        if (sparoa_platform_load(c->runtime, c->platforms.items[i], &c->loaded[i], &err))
            return sp_cli_error(c->cli, c->platforms.items[i], &err);
    if (c->start || c->finetune.count || c->compare)
        if (sparoa_predictor_load(c->runtime, c->start, &c->predictor, &err))
            return sp_cli_error(c->cli, c->start ? c->start : "the shipped weights", &err);
    c->options = (sparoa_training_options){.struct_size = sizeof c->options,
                                           .corpus = corpus,
                                           .platforms = (const sparoa_platform *const *)c->loaded,
                                           .platform_count = c->platforms.count,
                                           .network = c->network,
                                           .hold_out = c->hold_out,
                                           .epochs = (uint32_t)c->epochs,
                                           .seed = (uint64_t)c->seed,
                                           .inventions = (uint32_t)c->inventions,
                                           .progress = progress,
                                           .user = c};
    c->begin_ns = sp_cli_now_ns();
    return -1;
}

static int save(train_command *c)
{
    sparoa_error err;
    sparoa_predictor_info info;
    sparoa_predictor_get_info(c->predictor, &info);
    if (sparoa_predictor_save(c->predictor, c->output, &err))
        return sp_cli_error(c->cli, c->output, &err);
    if (!c->cli->quiet)
        printf("%s: %s, %zu parameters, %zu bytes, data %016llx\n", c->output, info.network,
               info.parameters, info.bytes, (unsigned long long)info.data);
    return SP_EXIT_PASS;
}

static int train(train_command *c)
{
    sparoa_error err;
    sparoa_status status = sparoa_predictor_train(c->runtime, &c->options, &c->predictor, &err);
    sp_cli_progress(c->cli, 0, NULL);
    return status ? sp_cli_error(c->cli, "training", &err) : save(c);
}

static int finetune(train_command *c)
{
    sparoa_error err;
    size_t used = 0;
    c->profiles = calloc(c->finetune.count, sizeof *c->profiles);
    if (!c->profiles) return sp_cli_fail(c->cli, SP_EXIT_FAIL, "out of memory");
    for (size_t i = 0; i < c->finetune.count; i++)
        if (sparoa_profile_load(c->runtime, c->finetune.items[i], &c->profiles[i], &err))
            return sp_cli_error(c->cli, c->finetune.items[i], &err);
    if (sparoa_predictor_tune(c->predictor, (const sparoa_profile *const *)c->profiles,
                              c->finetune.count, c->mode, &c->options, &used, &err))
        return sp_cli_error(c->cli, "fine-tuning", &err);
    if (!c->cli->quiet) printf("fine-tuned from %zu measured times\n", used);
    return save(c);
}

/* ---- the table ---- */

static void keep_score(void *user, const sparoa_predictor_score *score)
{
    train_command *c = user;
    if (c->score_count < MOST_SCORES) c->scores[c->score_count++] = *score;
    sp_cli_progress(c->cli, c->begin_ns, "%s judged, %.0f s", score->name,
                    (double)(sp_cli_now_ns() - c->begin_ns) * 1e-9);
}

static void print_scores(const train_command *c, int32_t shifted)
{
    const sparoa_predictor_score *last = NULL;
    puts(shifted ? "\nModels never trained on, on machines with other figures and loads:\n"
                 : "Models never trained on, on the platforms as described, every mode, both "
                   "regimes:\n");
    puts("| predictor | sparsity within 10%: all | interior | intensity within 10%: all | interior "
         "| within 0.1 of the range: sparsity | intensity | right device | regret | file, KB | ms "
         "per 100 operators: network | features |\n"
         "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (size_t i = 0; i < c->score_count; i++) {
        const sparoa_predictor_score *s = &c->scores[i];
        if (s->shifted != shifted) continue;
        printf("| %s | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.3f%% |",
               s->name, 100 * s->within[0], 100 * s->interior[0], 100 * s->within[1],
               100 * s->interior[1], 100 * s->range[0], 100 * s->range[1], 100 * s->right,
               100 * s->regret);
        if (s->bytes)
            printf(" %.0f | %.3f | %.3f |\n", (double)s->bytes * 1e-3, s->network_ns * 1e-6,
                   s->features_ns * 1e-6);
        else
            puts(" - | - | - |");
        last = s;
    }
    if (last)
        printf("\n%zu operators; labels at a bound: sparsity %.1f%%, intensity %.1f%%.\n",
               last->operators, 100 * last->bound[0], 100 * last->bound[1]);
}

static bool print_json(const train_command *c)
{
    FILE *file = sp_cli_json_open(c->cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_array(&j, NULL);
    for (size_t i = 0; i < c->score_count; i++) {
        const sparoa_predictor_score *s = &c->scores[i];
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "predictor", s->name);
        sp_json_string(&j, "machines", s->shifted ? "shifted" : "described");
        sp_json_number(&j, "operators", (double)s->operators);
        sp_json_number(&j, "sparsity_bound", s->bound[0]);
        sp_json_number(&j, "intensity_bound", s->bound[1]);
        sp_json_number(&j, "sparsity_within", s->within[0]);
        sp_json_number(&j, "sparsity_interior", s->interior[0]);
        sp_json_number(&j, "intensity_within", s->within[1]);
        sp_json_number(&j, "intensity_interior", s->interior[1]);
        sp_json_number(&j, "right_device", s->right);
        sp_json_number(&j, "regret", s->regret);
        sp_json_number(&j, "bytes", (double)s->bytes);
        sp_json_number(&j, "network_ms_per_100", s->network_ns * 1e-6);
        sp_json_number(&j, "features_ms_per_100", s->features_ns * 1e-6);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    return sp_cli_json_close(c->cli, file);
}

static int compare(train_command *c)
{
    sparoa_error err;
    sparoa_status status =
        sparoa_predictor_compare(c->runtime, c->predictor, &c->options, keep_score, c, &err);
    sp_cli_progress(c->cli, 0, NULL);
    if (status) return sp_cli_error(c->cli, "comparing", &err);
    for (int32_t shifted = 0; shifted < 2 && sp_cli_text(c->cli); shifted++)
        print_scores(c, shifted);
    if (c->cli->json_path && !print_json(c)) return SP_EXIT_FAIL;
    return SP_EXIT_PASS;
}

static int run(train_command *c)
{
    if (!c->compare && !c->output)
        return sp_cli_fail(c->cli, SP_EXIT_USAGE, "--output FILE is needed (or --compare)");
    int code = open_files(c);
    if (code >= 0) return code;
    if (c->compare) return compare(c);
    return c->finetune.count ? finetune(c) : train(c);
}

int sp_cmd_train_predictor(sp_cli *cli, int argc, char **argv)
{
    train_command c = {.cli = cli};
    const sp_arg table[] = {
        {SP_ARG_STRING, 0, "corpus", &c.corpus, "FILE",
         "operators to train on (default: models/predictor/corpus.tsv)", 0, 0, NULL},
        {SP_ARG_LIST, 'p', "platform", &c.platforms, "FILE",
         "a machine to train on; may be repeated (needed)", 0, 0, NULL},
        {SP_ARG_STRING, 'o', "output", &c.output, "FILE", "write the weights", 0, 0, NULL},
        {SP_ARG_STRING, 0, "network", &c.network, "NAME",
         "transformer+lstm (default), transformer, lstm, cnn, linear", 0, 0, NULL},
        {SP_ARG_STRING, 0, "hold-out", &c.hold_out, "FAMILY,...",
         "families of the corpus never trained on (default: as the shipped weights)", 0, 0, NULL},
        {SP_ARG_INT, 0, "epochs", &c.epochs, "N", "passes (default: as the shipped weights)", 1,
         100000, NULL},
        {SP_ARG_INT, 0, "inventions", &c.inventions, "N",
         "random sequences of 64 operators beside the corpus (default: 1600, to fine-tune 160)", 1,
         1000000, NULL},
        {SP_ARG_INT, 0, "seed", &c.seed, "N", "(default: that of the shipped weights)", 1,
         INT64_MAX, NULL},
        {SP_ARG_LIST, 0, "finetune", &c.finetune, "PROFILE",
         "fit to the one platform by a profile with measured times; may be repeated", 0, 0, NULL},
        {SP_ARG_STRING, 0, "mode", &c.mode, "NAME", "power mode of the measurements", 0, 0, NULL},
        {SP_ARG_STRING, 0, "weights", &c.start, "FILE",
         "fine-tune or compare these (default: the shipped weights)", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "compare", &c.compare, NULL,
         "train the other networks and print a table instead", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, table, NULL, argc, argv);
    if (code < 0) code = run(&c);
    for (size_t i = 0; i < c.finetune.count && c.profiles; i++)
        sparoa_profile_destroy(c.profiles[i]);
    free(c.profiles);
    sparoa_predictor_destroy(c.predictor);
    for (size_t i = 0; i < MOST_PLATFORMS; i++) sparoa_platform_destroy(c.loaded[i]);
    sparoa_runtime_destroy(c.runtime);
    sp_strings_free(&c.platforms), sp_strings_free(&c.finetune);
    return code;
}
