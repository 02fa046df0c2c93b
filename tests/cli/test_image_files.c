/* Pictures written with the libraries themselves, read back by the command's helpers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/feed.h"
#include "cli/image.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>
#include <png.h>

enum { WIDTH = 40, HEIGHT = 24 };

static char path[] = "sparoa_image_test.XXXXXX";

/* Red grows to the right, green downwards, blue is 60. */
static void paint(unsigned char *rgb)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++, rgb += 3) {
            rgb[0] = (unsigned char)(5 * x);
            rgb[1] = (unsigned char)(10 * y);
            rgb[2] = 60;
        }
}

static void check_picture(float tolerance)
{
    unsigned char rgb[3 * WIDTH * HEIGHT];
    sp_image image = {0};
    paint(rgb);
    assert_true(sp_image_is(path));
    assert_int_equal(sp_image_load(path, &image, NULL), SPAROA_OK);
    assert_int_equal(image.width, WIDTH);
    assert_int_equal(image.height, HEIGHT);
    for (int i = 0; i < 3 * WIDTH * HEIGHT; i++)
        assert_true(fabsf(image.pixels[i] - rgb[i]) <= tolerance);
    sp_image_free(&image);
}

/* Every prefix of the file must be refused or read, never more. */
static void check_prefixes(void)
{
    static char bytes[65536];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    for (size_t n = 0; n < size; n += 13) {
        sp_image image = {0};
        file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, n, file), n);
        fclose(file);
        sparoa_error err = {0};
        if (sp_image_load(path, &image, &err)) assert_true(err.message[0] != 0);
        sp_image_free(&image);
    }
}

static void test_png(void **state)
{
    (void)state;
    unsigned char rgb[3 * WIDTH * HEIGHT];
    paint(rgb);
    png_image png = {
        .version = PNG_IMAGE_VERSION, .width = WIDTH, .height = HEIGHT, .format = PNG_FORMAT_RGB};
    assert_true(png_image_write_to_file(&png, path, 0, rgb, 0, NULL));
    check_picture(0);
    check_prefixes();
}

static void test_jpeg(void **state)
{
    (void)state;
    unsigned char rgb[3 * WIDTH * HEIGHT];
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    paint(rgb);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_stdio_dest(&info, file);
    info.image_width = WIDTH;
    info.image_height = HEIGHT;
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, 98, TRUE);
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < HEIGHT; y++) {
        JSAMPROW row = rgb + 3 * y * WIDTH;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    fclose(file);
    check_picture(12);
    check_prefixes();
}

static sparoa_status feed_picture(const sp_feed *feed, sparoa_runtime *runtime, int rank,
                                  const int64_t *dims, sparoa_tensor *tensor)
{
    sparoa_value_info info = {.name = "x", .dtype = SPAROA_FLOAT32, .rank = rank};
    memcpy(info.dims, dims, (size_t)rank * sizeof *dims);
    return sp_feed_picture(feed, runtime, path, &info, tensor, NULL);
}

/* The tensors that options make of one picture. */
static void test_feed(void **state)
{
    (void)state;
    unsigned char rgb[3 * WIDTH * HEIGHT];
    sparoa_runtime *runtime = NULL;
    sparoa_runtime_options options = {.struct_size = sizeof options, .threads = 1};
    assert_int_equal(sparoa_runtime_create(&options, &runtime, NULL), SPAROA_OK);
    paint(rgb);
    png_image png = {
        .version = PNG_IMAGE_VERSION, .width = WIDTH, .height = HEIGHT, .format = PNG_FORMAT_RGB};
    assert_true(png_image_write_to_file(&png, path, 0, rgb, 0, NULL));
    sp_feed feed;
    sp_arg rows[SP_FEED_ROWS];
    sparoa_tensor t = {0};
    sp_feed_args(&feed, rows);
    assert_int_equal(feed_picture(&feed, runtime, 4, (int64_t[]){-1, 3, -1, -1}, &t), SPAROA_OK);
    assert_true(t.dims[0] == 1 && t.dims[2] == HEIGHT && t.dims[3] == WIDTH);
    const float *x = t.data;
    assert_true(fabsf(x[1] - 5 / 255.0f) < 1e-6f &&
                fabsf(x[WIDTH * HEIGHT + WIDTH] - 10 / 255.0f) < 1e-6f);
    sparoa_tensor_free(runtime, &t);
    feed.mean = "10,20,30";
    feed.std = "2";
    feed.scale = 1;
    feed.fit = "pad";
    assert_int_equal(feed_picture(&feed, runtime, 4, (int64_t[]){2, WIDTH, WIDTH, 3}, &t),
                     SPAROA_OK);
    x = t.data; /* (114 - mean) / 2 above the picture, in both of the batch */
    assert_true(x[0] == 52 && x[1] == 47 && x[2] == 42 && x[3 * WIDTH * WIDTH] == 52);
    sparoa_tensor_free(runtime, &t);
    feed.mean = feed.std = NULL;
    feed.fit = "crop";
    assert_int_equal(feed_picture(&feed, runtime, 2, (int64_t[]){HEIGHT, HEIGHT}, &t), SPAROA_OK);
    x = t.data; /* grey of column 8 in the first row */
    assert_true(fabsf(x[0] - (0.299f * 40 + 0.114f * 60)) < 1e-3f);
    sparoa_tensor_free(runtime, &t);
    assert_int_equal(feed_picture(&feed, runtime, 4, (int64_t[]){1, 7, 8, 8}, &t),
                     SPAROA_SHAPE_MISMATCH);
    assert_int_equal(feed_picture(&feed, runtime, 1, (int64_t[]){8}, &t), SPAROA_SHAPE_MISMATCH);
    feed.std = "0";
    assert_int_equal(feed_picture(&feed, runtime, 4, (int64_t[]){1, 3, 8, 8}, &t),
                     SPAROA_INVALID_ARGUMENT);
    feed.std = NULL;
    feed.crop = "30,0,20,5";
    assert_int_equal(feed_picture(&feed, runtime, 4, (int64_t[]){1, 3, 8, 8}, &t),
                     SPAROA_INVALID_ARGUMENT);
    sparoa_runtime_destroy(runtime);
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? 1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_png),
        cmocka_unit_test(test_jpeg),
        cmocka_unit_test(test_feed),
    };
    return cmocka_run_group_tests_name("image_files", tests, setup, teardown);
}
