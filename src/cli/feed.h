/*
 * feed.h - the inputs of a run: from .npy, .pb and picture files, or random.
 */
#ifndef SP_CLI_FEED_H
#define SP_CLI_FEED_H

#include "cli/args.h"
#include "sparoa.h"

/* Options that run, profile, bench and diff share. */
typedef struct sp_feed {
    sp_strings models; /* at most one: the model's file */
    sp_strings inputs; /* NAME=FILE or FILE */
    sp_strings dims;   /* NAME=N */
    sp_strings shapes; /* NAME=2x3x4 */
    const char *mean, *std, *crop;
    const char *layout, *fit, *resample;
    double scale; /* below 0: 1/255 for floating-point inputs, 1 for integers */
    int64_t seed, batch, resize, int_max;
    bool bgr, invert;
} sp_feed;

enum { SP_FEED_ROWS = 20 };

/* Sets the defaults and fills option rows that point into the feed. */
void sp_feed_args(sp_feed *feed, sp_arg rows[SP_FEED_ROWS]);
void sp_feed_free(sp_feed *feed);

typedef struct sp_inputs {
    sparoa_runtime *runtime;
    sparoa_tensor *items;
    const char **names;  /* the model's */
    const char **source; /* the file of each, or "random" */
    size_t count;
    char guessed[160]; /* "--dim batch=N --dim x.2=N": dynamic dimensions that nothing gave, taken
                          as 1 */
} sp_inputs;

/* Makes one tensor for each input of the model. */
sparoa_status sp_feed_build(const sp_feed *feed, sparoa_runtime *runtime, const sparoa_model *model,
                            sp_inputs *inputs, sparoa_error *err);
void sp_inputs_free(sp_inputs *inputs);

/* Fills a tensor with random values: floats in -1..1, integers in 0..int_max, bools. */
void sp_feed_random(sparoa_tensor *tensor, uint64_t *state, int64_t int_max);

/* Reads a picture into a tensor of a rank-2, 3 or 4 input; dims of -1 become the picture's own
 * size. For feed.c, and for the tests. */
sparoa_status sp_feed_picture(const sp_feed *feed, sparoa_runtime *runtime, const char *path,
                              const sparoa_value_info *info, sparoa_tensor *tensor,
                              sparoa_error *err);

#endif
