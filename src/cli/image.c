#include "cli/image.h"

#include "cli/npy.h"
#include "cli/value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static sparoa_status no_memory(sparoa_error *err)
{
    return sp_cli_error_set(err, SPAROA_OUT_OF_MEMORY, "no memory for a picture");
}

static float *new_pixels(int width, int height)
{
    return calloc((size_t)width * (size_t)height * 3, sizeof(float));
}

sparoa_status sp_image_crop(sp_image *image, int x, int y, int width, int height, sparoa_error *err)
{
    if (x < 0 || y < 0 || width < 1 || height < 1 || width > image->width ||
        height > image->height || x > image->width - width || y > image->height - height)
        return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT,
                                "the part %d,%d,%d,%d is not inside the picture of %d by %d", x, y,
                                width, height, image->width, image->height);
    float *pixels = new_pixels(width, height);
    if (!pixels) return no_memory(err);
    size_t line = 3 * (size_t)width;
    for (int row = 0; row < height; row++)
        memcpy(pixels + (size_t)row * line,
               image->pixels + 3 * ((size_t)(y + row) * (size_t)image->width + (size_t)x),
               line * sizeof(float));
    free(image->pixels);
    *image = (sp_image){width, height, pixels};
    return SPAROA_OK;
}

/* The old pixels that make one new pixel of an axis. */
typedef struct span {
    int first, count;
    double low, high; /* limits of the area in old pixels */
    float weight;     /* bilinear: of the second of two */
} span;

static span span_of(int i, int from, int to, bool area)
{
    double ratio = (double)from / to;
    span s = {0};
    if (area && from > to) {
        s.low = i * ratio;
        s.high = fmin((i + 1) * ratio, from);
        s.first = (int)s.low;
        s.count = (int)ceil(s.high - 1e-9) - s.first;
        if (s.count < 1) s.count = 1;
        if (s.first + s.count > from) s.count = from - s.first;
        return s;
    }
    double at = (i + 0.5) * ratio - 0.5;
    if (at < 0) at = 0;
    if (at > from - 1) at = from - 1;
    s.first = (int)at;
    s.weight = (float)(at - s.first);
    s.count = s.first + 1 < from ? 2 : 1;
    return s;
}

static float mix(const span *s, const float *in, size_t step, bool area)
{
    if (!area) return s->count == 1 ? in[0] : in[0] + (in[step] - in[0]) * s->weight;
    double sum = 0;
    for (int k = 0; k < s->count; k++) {
        double cover = fmin(s->high, s->first + k + 1.0) - fmax(s->low, s->first + k);
        sum += in[(size_t)k * step] * cover;
    }
    return (float)(sum / (s->high - s->low));
}

sparoa_status sp_image_resize(sp_image *image, int width, int height, bool area, sparoa_error *err)
{
    if (width < 1 || height < 1 || width > 65536 || height > 65536)
        return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT, "cannot resize a picture to %d by %d",
                                width, height);
    if (width == image->width && height == image->height) return SPAROA_OK;
    float *wide = new_pixels(width, image->height), *pixels = new_pixels(width, height);
    if (!wide || !pixels) {
        free(wide);
        free(pixels);
        return no_memory(err);
    }
    bool area_x = area && image->width > width, area_y = area && image->height > height;
    size_t line = 3 * (size_t)width;
    for (int x = 0; x < width; x++) {
        span s = span_of(x, image->width, width, area);
        for (int y = 0; y < image->height; y++) {
            const float *in =
                image->pixels + 3 * ((size_t)y * (size_t)image->width + (size_t)s.first);
            for (size_t c = 0; c < 3; c++)
                wide[(size_t)y * line + 3 * (size_t)x + c] = mix(&s, in + c, 3, area_x);
        }
    }
    for (int y = 0; y < height; y++) {
        span s = span_of(y, image->height, height, area);
        const float *in = wide + (size_t)s.first * line;
        for (size_t i = 0; i < line; i++)
            pixels[(size_t)y * line + i] = mix(&s, in + i, line, area_y);
    }
    free(wide);
    free(image->pixels);
    *image = (sp_image){width, height, pixels};
    return SPAROA_OK;
}

sparoa_status sp_image_pad(sp_image *image, int width, int height, float level, sparoa_error *err)
{
    if (width < image->width || height < image->height)
        return sp_cli_error_set(err, SPAROA_INVALID_ARGUMENT,
                                "cannot pad a picture of %d by %d to %d by %d", image->width,
                                image->height, width, height);
    float *pixels = new_pixels(width, height);
    if (!pixels) return no_memory(err);
    size_t count = 3 * (size_t)width * (size_t)height;
    for (size_t i = 0; i < count; i++) pixels[i] = level;
    size_t left = (size_t)(width - image->width) / 2, top = (size_t)(height - image->height) / 2;
    for (int y = 0; y < image->height; y++)
        memcpy(pixels + 3 * ((top + (size_t)y) * (size_t)width + left),
               image->pixels + 3 * (size_t)y * (size_t)image->width,
               3 * (size_t)image->width * sizeof(float));
    free(image->pixels);
    *image = (sp_image){width, height, pixels};
    return SPAROA_OK;
}

static double channel_of(const float *pixel, const sp_image_format *format, int c)
{
    if (format->channels == 1) return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
    if (c == 3) return 255;
    return pixel[format->bgr ? 2 - c : c];
}

void sp_image_store(const sp_image *image, const sp_image_format *format, sparoa_tensor *tensor,
                    int64_t offset)
{
    int64_t count = (int64_t)image->width * image->height;
    for (int64_t i = 0; i < count; i++)
        for (int c = 0; c < format->channels; c++) {
            double value = channel_of(image->pixels + 3 * i, format, c);
            value = (value * format->scale - format->mean[c]) / format->std[c];
            sp_value_set(tensor, offset + (format->nhwc ? i * format->channels + c : c * count + i),
                         value);
        }
}
