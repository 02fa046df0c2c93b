/*
 * classify.c - a PNG picture in, the five most likely classes out.
 *
 *   classify MODEL.onnx PICTURE.png [LABELS.txt]
 *
 * Works for models with one float32 input [batch, channels, height, width] of 1 or 3 channels and
 * scores as their first output. Pixels are scaled to 0..1; the picture is reduced to the model's
 * size by averaging.
 */
#include <png.h>
#include <sparoa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOP 5

/* Average of the picture's pixels under output pixel (x, y), channel c. */
static float sample(const png_image *image, const png_byte *pixels, int channels, int64_t w,
                    int64_t h, int64_t x, int64_t y, int c)
{
    int64_t x0 = x * image->width / w, x1 = (x + 1) * image->width / w;
    int64_t y0 = y * image->height / h, y1 = (y + 1) * image->height / h;
    double sum = 0;
    if (x1 == x0) x1++;
    if (y1 == y0) y1++;
    for (int64_t j = y0; j < y1; j++)
        for (int64_t i = x0; i < x1; i++) sum += pixels[(j * image->width + i) * channels + c];
    return (float)(sum / (double)((x1 - x0) * (y1 - y0)) / 255.0);
}

static int read_picture(const char *path, const sparoa_value_info *info, float *to)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    int channels = (int)info->dims[1];
    if (!png_image_begin_read_from_file(&image, path)) {
        fprintf(stderr, "%s: %s\n", path, image.message);
        return 1;
    }
    image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
    png_byte *pixels = malloc(PNG_IMAGE_SIZE(image));
    if (!pixels || !png_image_finish_read(&image, NULL, pixels, 0, NULL)) {
        fprintf(stderr, "%s: %s\n", path, pixels ? image.message : "no memory");
        png_image_free(&image);
        free(pixels);
        return 1;
    }
    int64_t h = info->dims[2], w = info->dims[3];
    for (int c = 0; c < channels; c++)
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++) *to++ = sample(&image, pixels, channels, w, h, x, y, c);
    free(pixels);
    return 0;
}

static void print_label(const char *path, int64_t index)
{
    char line[128] = "";
    FILE *f = path ? fopen(path, "r") : NULL;
    for (int64_t i = 0; f && i <= index; i++)
        if (!fgets(line, sizeof line, f)) line[0] = '\0';
    if (f) fclose(f);
    line[strcspn(line, "\n")] = '\0';
    if (line[0])
        printf("%s", line);
    else
        printf("class %lld", (long long)index);
}

static void print_top(const sparoa_tensor *scores, const char *labels)
{
    const float *s = scores->data;
    int64_t n = sparoa_tensor_count(scores), best[TOP] = {-1, -1, -1, -1, -1};
    for (int64_t i = 0; i < n; i++) {
        int64_t candidate = i;
        for (int k = 0; k < TOP && candidate >= 0; k++) {
            if (best[k] >= 0 && s[best[k]] >= s[candidate]) continue;
            int64_t moved = best[k];
            best[k] = candidate;
            candidate = moved;
        }
    }
    for (int k = 0; k < TOP && best[k] >= 0; k++) {
        print_label(labels, best[k]);
        printf(": %.4f\n", s[best[k]]);
    }
}

static int classify(sparoa_session *session, const sparoa_value_info *info, const char *picture,
                    const char *labels)
{
    sparoa_error err;
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, NULL, 4, 1, (int)info->dims[1],
                                        (int)info->dims[2], (int)info->dims[3]);
    sparoa_tensor out = {0};
    float *pixels = malloc(sparoa_tensor_bytes(&in));
    in.data = pixels;
    int failed = !pixels || read_picture(picture, info, pixels);
    if (!failed && sparoa_session_run(session, &in, 1, &out, 1, &err)) {
        fprintf(stderr, "%s\n", err.message);
        failed = 1;
    }
    if (!failed) print_top(&out, labels);
    free(pixels);
    return failed;
}

int main(int argc, char **argv)
{
    sparoa_runtime *runtime = NULL;
    sparoa_model *model = NULL;
    sparoa_session *session = NULL;
    sparoa_value_info info;
    sparoa_error err;
    if (argc < 3) {
        fprintf(stderr, "usage: classify MODEL.onnx PICTURE.png [LABELS.txt]\n");
        return 2;
    }
    int failed = sparoa_runtime_create(NULL, &runtime, &err) ||
                 sparoa_model_load(runtime, argv[1], NULL, &model, &err) ||
                 sparoa_session_create(model, NULL, &session, &err);
    if (failed) {
        fprintf(stderr, "%s\n", err.message);
    } else if (sparoa_model_input(model, 0, &info) || info.dtype != SPAROA_FLOAT32 ||
               info.rank != 4 || (info.dims[1] != 1 && info.dims[1] != 3) || info.dims[2] <= 0 ||
               info.dims[3] <= 0 || sparoa_model_output_count(model) != 1) {
        fprintf(stderr, "%s: not a classifier of pictures\n", argv[1]);
        failed = 1;
    } else {
        failed = classify(session, &info, argv[2], argc > 3 ? argv[3] : NULL);
    }
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(runtime);
    return failed != 0;
}
