/*
 * image.h - pictures: reading PNG and JPEG, cutting, resizing, and turning them into tensors.
 */
#ifndef SP_CLI_IMAGE_H
#define SP_CLI_IMAGE_H

#include "sparoa.h"

#include <stdbool.h>
#include <stddef.h>

/* Red, green, blue as floats 0..255, row by row. */
typedef struct sp_image {
    int width, height;
    float *pixels;
} sp_image;

/* Reads a file; its kind is told by its first bytes. Transparency is dropped. */
sparoa_status sp_image_load(const char *path, sp_image *image, sparoa_error *err);
void sp_image_free(sp_image *image);

/* True if the file begins like a PNG or JPEG file. */
bool sp_image_is(const char *path);

/* Cuts out a part, which must lie inside. */
sparoa_status sp_image_crop(sp_image *image, int x, int y, int width, int height,
                            sparoa_error *err);

/* Resizes: bilinear with half-pixel centres; with `area`, an axis that shrinks is averaged over the
 * area of the old pixels instead, so that no pixel is left out. */
sparoa_status sp_image_resize(sp_image *image, int width, int height, bool area, sparoa_error *err);

/* Puts the picture in the middle of a larger one of one grey level. */
sparoa_status sp_image_pad(sp_image *image, int width, int height, float level, sparoa_error *err);

typedef struct sp_image_format {
    bool nhwc;    /* channel last, else channel first */
    bool bgr;     /* blue first */
    int channels; /* 1 (grey: 0.299 R + 0.587 G + 0.114 B), 3, or 4 (the fourth is 255) */
    double scale; /* a value is (pixel * scale - mean[c]) / std[c] */
    double mean[4], std[4];
} sp_image_format;

/* Writes the picture into a tensor's data, which has width * height * channels elements from
 * `offset` on. */
void sp_image_store(const sp_image *image, const sp_image_format *format, sparoa_tensor *tensor,
                    int64_t offset);

#endif
