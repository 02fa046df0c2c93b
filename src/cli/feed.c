#include "cli/feed.h"

#include "cli/image.h"
#include "cli/npy.h"
#include "cli/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void sp_feed_args(sp_feed *f, sp_arg rows[SP_FEED_ROWS])
{
    *f = (sp_feed){.layout = "auto",
                   .fit = "stretch",
                   .resample = "area",
                   .scale = -1,
                   .seed = 1,
                   .int_max = 9};
    const sp_arg table[] = {
        {SP_ARG_REST, 0, NULL, &f->models, "MODEL",
         "an .onnx file (default: the built-in digits model)", 0, 1, NULL},
        {SP_ARG_LIST, 'i', "input", &f->inputs, "[NAME=]FILE",
         ".npy, .pb, PNG or JPEG for an input (default: random)", 0, 0, NULL},
        {SP_ARG_LIST, 'd', "dim", &f->dims, "NAME=N", "size of a dynamic dimension (default: 1)", 0,
         0, NULL},
        {SP_ARG_LIST, 0, "shape", &f->shapes, "NAME=2x3x4", "whole shape of an input", 0, 0, NULL},
        {SP_ARG_INT, 'b', "batch", &f->batch, "N", "size of dynamic first dimensions", 1, 1 << 20,
         NULL},
        {SP_ARG_INT, 0, "seed", &f->seed, "N", "of random inputs (default: 1)", 0, 0, NULL},
        {SP_ARG_INT, 0, "int-max", &f->int_max, "N", "largest random integer (default: 9)", 0,
         INT64_MAX - 1, NULL},
        {SP_ARG_STRING, 0, "mean", &f->mean, "A,B,C",
         "pictures: value = (pixel * scale - mean) / std", 0, 0, NULL},
        {SP_ARG_STRING, 0, "std", &f->std, "A,B,C", "pictures: the divisor", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "scale", &f->scale, "X", "pictures: default 1/255, for integer inputs 1",
         0, 0, NULL},
        {SP_ARG_CHOICE, 0, "layout", &f->layout, NULL, "pictures: where the channel is", 0, 0,
         "auto|nchw|nhwc"},
        {SP_ARG_FLAG, 0, "bgr", &f->bgr, NULL, "pictures: blue first", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "invert", &f->invert, NULL, "pictures: dark becomes bright", 0, 0, NULL},
        {SP_ARG_STRING, 0, "crop", &f->crop, "X,Y,W,H", "pictures: take this part first", 0, 0,
         NULL},
        {SP_ARG_INT, 0, "resize", &f->resize, "N",
         "pictures: shorter side to N, then cut the middle", 1, 65536, NULL},
        {SP_ARG_CHOICE, 0, "fit", &f->fit, NULL, "pictures: how they get the model's size", 0, 0,
         "stretch|crop|pad"},
        {SP_ARG_CHOICE, 0, "resample", &f->resample, NULL, "pictures: how they shrink", 0, 0,
         "area|bilinear"},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    _Static_assert(sizeof table / sizeof *table <= SP_FEED_ROWS, "more rows than room");
    memcpy(rows, table, sizeof table);
}

void sp_feed_free(sp_feed *feed)
{
    sp_strings_free(&feed->models);
    sp_strings_free(&feed->inputs);
    sp_strings_free(&feed->dims);
    sp_strings_free(&feed->shapes);
}

/* ---- Random ---- */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void sp_feed_random(sparoa_tensor *tensor, uint64_t *state, int64_t int_max)
{
    int64_t count = sparoa_tensor_count(tensor);
    bool real = sp_value_is_float(tensor->dtype);
    uint64_t limit = tensor->dtype == SPAROA_BOOL ? 2 : (uint64_t)int_max + 1;
    for (int64_t i = 0; i < count; i++) {
        uint64_t bits = next_random(state);
        double value = real ? (double)(bits >> 11) * 0x1p-52 - 1 : (double)(bits % limit);
        sp_value_set(tensor, i, value);
    }
}

/* ---- Pictures ---- */

/* "A" or "A,B,C" into four numbers. */
static bool parse_list(const char *text, double fallback, double *values, int most)
{
    char word[64];
    int count = 0;
    for (int i = 0; i < most; i++) values[i] = fallback;
    if (!text) return true;
    for (const char *at = text; count < most; at++) {
        size_t n = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        if (!sp_parse_number(word, &values[count++])) return false;
        at += n;
        if (*at == ',') continue;
        for (int i = count; i < most; i++) values[i] = values[count - 1];
        return true;
    }
    return false;
}

/* Positions of height, width and channel among the input's dimensions; -1: there is none. */
typedef struct axes {
    int height, width, channel;
} axes;

static bool find_axes(const sp_feed *feed, const sparoa_value_info *info, axes *at)
{
    int r = info->rank;
    if (r < 2 || r > 4) return false;
    *at = (axes){r - 2, r - 1, -1};
    if (r == 2) return true;
    int64_t first = info->dims[r - 3], last = info->dims[r - 1];
    bool nhwc = !strcmp(feed->layout, "nhwc");
    if (!strcmp(feed->layout, "auto"))
        nhwc = !(first == 1 || first == 3 || first == 4) && (last == 1 || last == 3 || last == 4);
    /* Of a rank-3 input, [1,H,W] and [N,H,W] are the same as channel first. */
    *at = nhwc ? (axes){r - 3, r - 2, r - 1} : (axes){r - 2, r - 1, r - 3};
    return true;
}

static sparoa_status crop_part(const sp_feed *feed, sp_image *image, sparoa_error *err)
{
    double part[4];
    if (!feed->crop) return SPAROA_OK;
    if (!parse_list(feed->crop, 0, part, 4) || part[0] < 0 || part[1] < 0 || part[2] > 1e9 ||
        part[3] > 1e9 || part[0] > 1e9 || part[1] > 1e9 || part[2] < 1 || part[3] < 1)
        return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT,
                                "--crop %s: expected X,Y,WIDTH,HEIGHT", feed->crop);
    return sp_image_crop(image, (int)part[0], (int)part[1], (int)part[2], (int)part[3], err);
}

static int scaled(int size, double ratio)
{
    int result = (int)(size * ratio + 0.5);
    return result < 1 ? 1 : result;
}

/* Brings a picture to the model's size. */
static sparoa_status fit_picture(const sp_feed *feed, sp_image *image, int width, int height,
                                 sparoa_error *err)
{
    bool area = !strcmp(feed->resample, "area"), pad = !strcmp(feed->fit, "pad");
    if (feed->resize || !strcmp(feed->fit, "crop") || pad) {
        double x = (double)width / image->width, y = (double)height / image->height;
        double ratio = pad ? (x < y ? x : y) : (x > y ? x : y);
        int shorter = image->width < image->height ? image->width : image->height;
        if (feed->resize) ratio = (double)feed->resize / shorter;
        sparoa_status status = sp_image_resize(image, scaled(image->width, ratio),
                                               scaled(image->height, ratio), area, err);
        int w = width < image->width ? width : image->width,
            h = height < image->height ? height : image->height;
        if (!status)
            status =
                sp_image_crop(image, (image->width - w) / 2, (image->height - h) / 2, w, h, err);
        if (!status) status = sp_image_pad(image, width, height, 114, err);
        return status;
    }
    return sp_image_resize(image, width, height, area, err);
}

static sparoa_status picture_format(const sp_feed *feed, const sparoa_value_info *info,
                                    const axes *at, sp_image_format *format, sparoa_error *err)
{
    int64_t channels = at->channel < 0 ? 1 : info->dims[at->channel];
    if (channels < 0) channels = 3;
    if (channels != 1 && channels != 3 && channels != 4)
        return sp_cli_error_set(
            err, SPAROA_SHAPE_MISMATCH,
            "input '%s' has %lld channels; a picture fits 1, 3 or 4 (--layout?)", info->name,
            (long long)channels);
    *format = (sp_image_format){
        .nhwc = at->channel > at->width, .bgr = feed->bgr, .channels = (int)channels};
    format->scale = feed->scale >= 0 ? feed->scale : sp_value_is_float(info->dtype) ? 1.0 / 255 : 1;
    if (!parse_list(feed->mean, 0, format->mean, 4) || !parse_list(feed->std, 1, format->std, 4))
        return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT,
                                "--mean and --std: expected numbers with commas");
    for (int c = 0; c < 4; c++)
        if (format->std[c] == 0)
            return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT, "--std must not be 0");
    return SPAROA_OK;
}

sparoa_status sp_feed_picture(const sp_feed *feed, sparoa_runtime *runtime, const char *path,
                              const sparoa_value_info *info, sparoa_tensor *tensor,
                              sparoa_error *err)
{
    axes at;
    sp_image image = {0};
    sp_image_format format;
    if (!find_axes(feed, info, &at))
        return sp_cli_error_set(err, SPAROA_SHAPE_MISMATCH,
                                "input '%s' has rank %d; a picture fits ranks 2, 3 and 4",
                                info->name, info->rank);
    sparoa_status status = picture_format(feed, info, &at, &format, err);
    if (!status) status = sp_image_load(path, &image, err);
    if (!status) status = crop_part(feed, &image, err);
    if (status) {
        sp_image_free(&image);
        return status;
    }
    sparoa_tensor t = sparoa_tensor_view(info->dtype, NULL, info->rank, info->dims);
    if (t.dims[at.height] < 0) t.dims[at.height] = image.height;
    if (t.dims[at.width] < 0) t.dims[at.width] = image.width;
    if (at.channel >= 0) t.dims[at.channel] = format.channels;
    for (int i = 0; i < t.rank; i++)
        if (t.dims[i] < 0) t.dims[i] = feed->batch ? feed->batch : 1;
    int64_t width = t.dims[at.width], height = t.dims[at.height];
    if (width > 65536 || height > 65536)
        status = sp_cli_error_set(err, SPAROA_TOO_LARGE, "input '%s' is too large for a picture",
                                  info->name);
    if (!status) status = fit_picture(feed, &image, (int)width, (int)height, err);
    if (!status) status = sparoa_tensor_alloc(runtime, &t, err);
    if (!status) {
        for (int64_t i = 0; feed->invert && i < 3 * width * height; i++)
            image.pixels[i] = 255 - image.pixels[i];
        int64_t one = width * height * format.channels, count = sparoa_tensor_count(&t);
        for (int64_t offset = 0; offset + one <= count; offset += one)
            sp_image_store(&image, &format, &t, offset);
        *tensor = t;
    }
    sp_image_free(&image);
    return status;
}

/* ---- One input ---- */

/* The value of "NAME=value" in a list for this name, or NULL; the last one wins. */
static const char *named(const sp_strings *list, const char *name)
{
    const char *found = NULL;
    size_t length = strlen(name);
    for (size_t i = 0; i < list->count; i++)
        if (!strncmp(list->items[i], name, length) && list->items[i][length] == '=')
            found = list->items[i] + length + 1;
    return found;
}

static sparoa_status parse_shape(const char *name, const char *text, sparoa_value_info *info,
                                 sparoa_error *err)
{
    const char *at = text;
    info->rank = 0;
    while (*at) {
        char word[24];
        size_t n = strcspn(at, "x,");
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        if (info->rank == SPAROA_MAX_RANK || !sp_parse_int(word, &info->dims[info->rank]) ||
            info->dims[info->rank] < 0)
            return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT,
                                    "--shape %s=%s: expected up to %d sizes like 1x3x224x224", name,
                                    text, SPAROA_MAX_RANK);
        info->rank++;
        at += n + (at[n] != 0);
    }
    return SPAROA_OK;
}

/* Puts --shape, --dim and --batch into the declared shape. */
static sparoa_status apply_dims(const sp_feed *feed, sparoa_value_info *info, sparoa_error *err)
{
    const char *shape = named(&feed->shapes, info->name);
    if (shape) return parse_shape(info->name, shape, info, err);
    for (int i = 0; i < info->rank; i++) {
        char by_place[300];
        snprintf(by_place, sizeof by_place, "%.280s.%d", info->name, i);
        const char *text = named(&feed->dims, by_place);
        if (info->dims[i] >= 0 && !text) continue;
        if (!text && info->dim_names[i]) text = named(&feed->dims, info->dim_names[i]);
        if (text && (!sp_parse_int(text, &info->dims[i]) || info->dims[i] < 0))
            return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT, "--dim: '%s' is not a size",
                                    text);
        if (!text && i == 0 && feed->batch) info->dims[i] = feed->batch;
    }
    return SPAROA_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static sparoa_status from_file(const sp_feed *feed, sparoa_runtime *runtime, const char *path,
                               const sparoa_value_info *info, sparoa_tensor *tensor,
                               sparoa_error *err)
{
    if (ends_with(path, ".npy")) return sp_npy_load(runtime, path, tensor, err);
    if (ends_with(path, ".pb")) return sparoa_tensor_load_pb(runtime, path, tensor, NULL, 0, err);
    if (sp_image_is(path)) return sp_feed_picture(feed, runtime, path, info, tensor, err);
    if (access(path, R_OK))
        return sp_cli_error_set(err, SPAROA_NOT_FOUND, "%s: cannot be read", path);
    return sp_cli_error_set(err, SPAROA_UNSUPPORTED_TYPE,
                            "%s: expected a .npy, .pb, PNG or JPEG file", path);
}

static sparoa_status make_random(const sp_feed *feed, sparoa_runtime *runtime,
                                 const sparoa_value_info *info, uint64_t *state,
                                 sparoa_tensor *tensor, sparoa_error *err)
{
    if (info->rank < 0)
        return sp_cli_error_set(
            err, SPAROA_SHAPE_MISMATCH,
            "input '%s' has no shape in the model; give --shape %s=... or a file", info->name,
            info->name);
    sparoa_tensor t = sparoa_tensor_view(info->dtype, NULL, info->rank, info->dims);
    for (int i = 0; i < t.rank; i++)
        if (t.dims[i] < 0) t.dims[i] = 1;
    if (sparoa_tensor_count(&t) < 0)
        return sp_cli_error_set(err, SPAROA_TOO_LARGE, "input '%s' has too many elements",
                                info->name);
    sparoa_status status = sparoa_tensor_alloc(runtime, &t, err);
    if (status) return status;
    sp_feed_random(&t, state, feed->int_max);
    *tensor = t;
    return SPAROA_OK;
}

/* Notes the dimensions that are taken as 1 because neither file nor option gives them. A batch of 1
 * is no guess worth a word. */
static void note_guesses(sp_inputs *inputs, const sparoa_value_info *info)
{
    for (int i = 1; i < info->rank; i++) {
        size_t at = strlen(inputs->guessed), room = sizeof inputs->guessed - at;
        char text[96];
        if (info->dims[i] >= 0) continue;
        if (info->dim_names[i])
            snprintf(text, sizeof text, "--dim %.60s=N", info->dim_names[i]);
        else
            snprintf(text, sizeof text, "--dim %.60s.%d=N", info->name, i);
        if (strlen(text) + 2 > room || strstr(inputs->guessed, text)) continue;
        snprintf(inputs->guessed + at, room, "%s%s", at ? " " : "", text);
    }
}

/* ---- All inputs ---- */

static bool is_input(const sp_inputs *inputs, const char *text)
{
    for (size_t i = 0; i < inputs->count; i++) {
        size_t n = strlen(inputs->names[i]);
        if (!strncmp(text, inputs->names[i], n) && text[n] == '=') return true;
    }
    return false;
}

/* Gives every --input its place: by name, else the first free one. */
static sparoa_status assign_files(const sp_feed *feed, sp_inputs *inputs, sparoa_error *err)
{
    for (size_t i = 0; i < inputs->count; i++)
        inputs->source[i] = named(&feed->inputs, inputs->names[i]);
    for (size_t k = 0; k < feed->inputs.count; k++) {
        const char *text = feed->inputs.items[k];
        if (is_input(inputs, text)) continue;
        if (strchr(text, '=') && access(text, R_OK))
            return sp_cli_error_set(
                err, SPAROA_NOT_FOUND,
                "--input %s: the model has no such input; its first is '%s' of %zu", text,
                inputs->count ? inputs->names[0] : "", inputs->count);
        size_t place = 0;
        while (place < inputs->count && inputs->source[place]) place++;
        if (place == inputs->count)
            return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT,
                                    "--input %s: the model has only %zu inputs", text,
                                    inputs->count);
        inputs->source[place] = text;
    }
    return SPAROA_OK;
}

/* Whether "NAME=N" of --dim names an open dimension of this input, or INPUT.PLACE. */
static bool dim_fits(const char *text, const sparoa_value_info *info)
{
    size_t length = strcspn(text, "=");
    for (int i = 0; i < info->rank; i++) {
        char by_place[300];
        snprintf(by_place, sizeof by_place, "%.280s.%d", info->name, i);
        const char *names[] = {by_place, info->dim_names[i]};
        for (int k = 0; k < 2; k++)
            if (names[k] && strlen(names[k]) == length && !strncmp(names[k], text, length))
                return true;
    }
    return false;
}

/* Every --dim and --shape must name something that the model has: a name that is misspelt would
 * otherwise pass unseen. */
static sparoa_status check_names(const sp_feed *feed, const sparoa_model *model,
                                 const sp_inputs *inputs, sparoa_error *err)
{
    for (size_t k = 0; k < feed->dims.count; k++) {
        const char *text = feed->dims.items[k], *open = NULL;
        bool fits = false;
        if (!strchr(text, '='))
            return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT,
                                    "--dim %s: expected NAME=N or INPUT.PLACE=N", text);
        for (size_t i = 0; i < inputs->count && !fits; i++) {
            sparoa_value_info info;
            if (sparoa_model_input(model, i, &info)) continue;
            fits = dim_fits(text, &info);
            for (int d = 0; d < info.rank && !open; d++) open = info.dim_names[d];
        }
        if (!fits)
            return sp_cli_error_set(err, SPAROA_NOT_FOUND,
                                    "--dim %s: no input has a dimension of that name; %s%s; "
                                    "INPUT.PLACE=N counts from 0",
                                    text, open ? "the first open one is " : "none has a name",
                                    open ? open : "");
    }
    for (size_t k = 0; k < feed->shapes.count; k++)
        if (!is_input(inputs, feed->shapes.items[k]))
            return sp_cli_error_set(
                err, SPAROA_NOT_FOUND,
                "--shape %s: the model has no such input; its first is '%s' of %zu",
                feed->shapes.items[k], inputs->count ? inputs->names[0] : "", inputs->count);
    return SPAROA_OK;
}

sparoa_status sp_feed_build(const sp_feed *feed, sparoa_runtime *runtime, const sparoa_model *model,
                            sp_inputs *inputs, sparoa_error *err)
{
    size_t count = sparoa_model_input_count(model);
    uint64_t state = (uint64_t)feed->seed;
    *inputs = (sp_inputs){.runtime = runtime, .count = count};
    inputs->items = calloc(count + 1, sizeof *inputs->items);
    inputs->names = calloc(count + 1, sizeof *inputs->names);
    inputs->source = calloc(count + 1, sizeof *inputs->source);
    if (!inputs->items || !inputs->names || !inputs->source) {
        sp_inputs_free(inputs);
        return sp_cli_error_set(err, SPAROA_OUT_OF_MEMORY, "no memory for %zu inputs", count);
    }
    sparoa_value_info info;
    for (size_t i = 0; i < count; i++)
        inputs->names[i] = sparoa_model_input(model, i, &info) ? "" : info.name;
    sparoa_status status = check_names(feed, model, inputs, err);
    if (!status) status = assign_files(feed, inputs, err);
    for (size_t i = 0; i < count && !status; i++) {
        sparoa_model_input(model, i, &info);
        status = apply_dims(feed, &info, err);
        if (status) break;
        if (inputs->source[i])
            status = from_file(feed, runtime, inputs->source[i], &info, &inputs->items[i], err);
        else
            status = make_random(feed, runtime, &info, &state, &inputs->items[i], err);
        if (inputs->source[i]) continue;
        inputs->source[i] = "random";
        note_guesses(inputs, &info);
    }
    if (status) sp_inputs_free(inputs);
    return status;
}

void sp_inputs_free(sp_inputs *inputs)
{
    for (size_t i = 0; inputs->items && i < inputs->count; i++)
        sparoa_tensor_free(inputs->runtime, &inputs->items[i]);
    free(inputs->items);
    free(inputs->names);
    free(inputs->source);
    *inputs = (sp_inputs){0};
}
