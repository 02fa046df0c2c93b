/* The helpers of the command: options, JSON, .npy files, pictures, comparing, figures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/args.h"
#include "cli/compare.h"
#include "cli/feed.h"
#include "cli/image.h"
#include "cli/json.h"
#include "cli/npy.h"
#include "cli/stats.h"
#include "cli/table.h"
#include "cli/testset.h"
#include "cli/value.h"
#include "cli/valuemap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "sparoa_cli_test.XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static sparoa_runtime *new_runtime(void)
{
    sparoa_runtime_options options = {.struct_size = sizeof options, .threads = 1};
    sparoa_runtime *runtime = NULL;
    assert_int_equal(sparoa_runtime_create(&options, &runtime, NULL), SPAROA_OK);
    return runtime;
}

/* ---- Options ---- */

typedef struct options {
    bool flag;
    int64_t count;
    double ratio;
    const char *text, *json, *mode;
    sp_strings list, rest;
} options;

static bool parse(options *o, char *error, size_t size, int argc, const char **argv)
{
    *o = (options){.count = 7, .mode = "one"};
    error[0] = 0;
    const sp_arg table[] = {
        {SP_ARG_REST, 0, NULL, &o->rest, "FILE", "", 1, 2, NULL},
        {SP_ARG_FLAG, 'f', "flag", &o->flag, NULL, "", 0, 0, NULL},
        {SP_ARG_INT, 'n', "count", &o->count, "N", "", 1, 10, NULL},
        {SP_ARG_NUMBER, 0, "ratio", &o->ratio, "X", "", 0, 0, NULL},
        {SP_ARG_STRING, 0, "text", &o->text, "T", "", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    const sp_arg common[] = {
        {SP_ARG_OPTIONAL, 0, "json", &o->json, "FILE", "", 0, 0, NULL},
        {SP_ARG_CHOICE, 0, "mode", &o->mode, NULL, "", 0, 0, "one|two"},
        {SP_ARG_LIST, 'i', "item", &o->list, "I", "", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    const sp_arg *const tables[] = {table, common, NULL};
    return sp_args_parse(tables, argc, (char **)argv, error, size);
}

static void done(options *o)
{
    sp_strings_free(&o->list);
    sp_strings_free(&o->rest);
}

static void test_args(void **state)
{
    (void)state;
    options o;
    char e[256];
    const char *all[] = {"a.onnx", "-f",     "--count=3", "--ratio", "-0.5", "--text", "--json",
                         "--json", "--item", "x=1",       "-iy",     "--",   "-z"};
    assert_true(parse(&o, e, sizeof e, 13, all));
    assert_true(o.flag);
    assert_int_equal(o.count, 3);
    assert_true(o.ratio == -0.5);
    assert_string_equal(o.text, "--json");
    assert_string_equal(o.json, "");
    assert_int_equal(o.list.count, 2);
    assert_string_equal(o.list.items[1], "y");
    assert_int_equal(o.rest.count, 2);
    assert_string_equal(o.rest.items[1], "-z");
    done(&o);
    static const struct {
        const char *word, *says;
    } bad[] = {
        {"--cuont=3", "nearest is --count"},
        {"--count=0", "from 1 to 10"},
        {"--count=3x", "from 1 to 10"},
        {"--count=99999999999999999999", "from 1 to 10"},
        {"--ratio=nan", "expected a number"},
        {"--mode=t", "one of one|two"},
        {"--mode=", "one of one|two"},
        {"--flag=1", "takes no value"},
        {"--text", "needs a value"},
        {"--zzzzzzzzz", "--help lists"},
        {"-q", "unknown option"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *words[] = {"a", bad[i].word};
        assert_false(parse(&o, e, sizeof e, 2, words));
        if (!strstr(e, bad[i].says)) fail_msg("%s gave: %s", bad[i].word, e);
        done(&o);
    }
    assert_false(parse(&o, e, sizeof e, 0, NULL));
    assert_non_null(strstr(e, "FILE is missing"));
    const char *many[] = {"a", "b", "c"};
    assert_false(parse(&o, e, sizeof e, 3, many));
    assert_non_null(strstr(e, "unexpected argument c"));
    done(&o);
}

/* ---- JSON ---- */

static void test_json(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_json_string(&j, "quote\"d", "a\\b\n\t\x01 \xc3\xa9 \xff\xed\xa0\x80");
    sp_json_string(&j, "none", NULL);
    sp_json_number(&j, "nan", NAN);
    sp_json_number(&j, "inf", -INFINITY);
    sp_json_number(&j, "pi", 3.25);
    sp_json_int(&j, "big", INT64_MIN);
    sp_json_bool(&j, "yes", true);
    sp_json_array(&j, "empty");
    sp_json_end_array(&j);
    sp_json_flat_array(&j, "flat");
    sp_json_int(&j, NULL, 1);
    sp_json_object(&j, NULL);
    sp_json_int(&j, "x", 2);
    sp_json_end_object(&j);
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    fclose(file);
    assert_true(sp_json_valid(text));
    assert_non_null(strstr(text, "\"quote\\\"d\": \"a\\\\b\\n\\t\\u0001 \xc3\xa9 \\ufffd"));
    assert_non_null(strstr(text, "\"nan\": null"));
    assert_non_null(strstr(text, "\"inf\": null"));
    assert_non_null(strstr(text, "[1, {\"x\": 2}]"));
    assert_non_null(strstr(text, "-9223372036854775808"));
    free(text);
    static const char *const wrong[] = {"",         "{",     "[1,]",  "{\"a\" 1}", "nan",    "01",
                                        "\"\x01\"", "[1] 2", "{1:2}", "1.",        "\"\\x\""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (sp_json_valid(wrong[i])) fail_msg("took %s", wrong[i]);
    assert_true(sp_json_valid(" [ -1.5e+3 , true, \"\\u00e9\" ] "));
}

/* ---- .npy ---- */

static void test_npy(void **state)
{
    (void)state;
    sparoa_runtime *runtime = new_runtime();
    float values[6] = {1, -2, NAN, INFINITY, 0.5f, 1e-40f};
    static const int64_t shapes[][2] = {{2, 3}, {6, 1}};
    for (int rank = 0; rank <= 2; rank++) {
        sparoa_tensor out = sparoa_tensor_view(SPAROA_FLOAT32, values, rank, shapes[rank == 1]),
                      in = {0};
        assert_int_equal(sp_npy_save(in_folder("a.npy"), &out, NULL), SPAROA_OK);
        assert_int_equal(sp_npy_load(runtime, in_folder("a.npy"), &in, NULL), SPAROA_OK);
        assert_int_equal(in.dtype, SPAROA_FLOAT32);
        assert_int_equal(in.rank, rank);
        assert_memory_equal(in.data, values, sparoa_tensor_bytes(&out));
        sparoa_tensor_free(runtime, &in);
    }
    int64_t none[2] = {0, 3};
    sparoa_tensor empty = sparoa_tensor_view(SPAROA_INT64, NULL, 2, none), in = {0};
    assert_int_equal(sp_npy_save(in_folder("e.npy"), &empty, NULL), SPAROA_OK);
    assert_int_equal(sp_npy_load(runtime, in_folder("e.npy"), &in, NULL), SPAROA_OK);
    assert_int_equal(in.dims[0], 0);
    sparoa_tensor_free(runtime, &in);
    sparoa_runtime_destroy(runtime);
}

static void test_npy_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        sparoa_status status;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
         SPAROA_MALFORMED}, /* no data */
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9), }",
         SPAROA_MALFORMED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
         SPAROA_MALFORMED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", SPAROA_MALFORMED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }",
         SPAROA_MALFORMED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2", SPAROA_MALFORMED},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", SPAROA_UNSUPPORTED_TYPE},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", SPAROA_UNSUPPORTED_TYPE},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", SPAROA_UNSUPPORTED_TYPE},
        {"{'descr': ", SPAROA_MALFORMED},
        {"", SPAROA_MALFORMED},
    };
    sparoa_runtime *runtime = new_runtime();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char bytes[256] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
        size_t length = strlen(cases[i].header);
        bytes[8] = (unsigned char)length;
        memcpy(bytes + 10, cases[i].header, length);
        write_bytes(in_folder("h.npy"), bytes, 10 + length);
        sparoa_tensor in = {0};
        sparoa_error err = {0};
        assert_int_equal(sp_npy_load(runtime, in_folder("h.npy"), &in, &err), cases[i].status);
        assert_true(err.message[0] != 0);
        assert_null(in.data);
    }
    write_bytes(in_folder("h.npy"), "\x93NUM", 4);
    sparoa_tensor in = {0};
    assert_int_equal(sp_npy_load(runtime, in_folder("h.npy"), &in, NULL), SPAROA_MALFORMED);
    assert_int_equal(sp_npy_load(runtime, in_folder("absent.npy"), &in, NULL), SPAROA_NOT_FOUND);
    sparoa_runtime_destroy(runtime);
}

/* ---- Pictures ---- */

static sp_image picture(int width, int height)
{
    sp_image image = {width, height, malloc((size_t)width * (size_t)height * 3 * sizeof(float))};
    assert_non_null(image.pixels);
    for (int i = 0; i < width * height; i++)
        for (int c = 0; c < 3; c++) image.pixels[3 * i + c] = (float)(10 * i + c);
    return image;
}

static void test_image(void **state)
{
    (void)state;
    sp_image image = picture(4, 2);
    assert_int_equal(sp_image_resize(&image, 2, 1, true, NULL), SPAROA_OK);
    assert_true(fabsf(image.pixels[0] - 25) < 1e-4f); /* mean of 0, 10, 40, 50 */
    assert_true(fabsf(image.pixels[4] - 46) < 1e-4f); /* green of 20, 30, 60, 70 */
    assert_int_equal(sp_image_resize(&image, 4, 1, true, NULL), SPAROA_OK);
    assert_true(fabsf(image.pixels[3] - 30) < 1e-4f); /* a quarter of the way from 25 to 45 */
    assert_int_equal(sp_image_pad(&image, 6, 3, 7, NULL), SPAROA_OK);
    assert_true(image.pixels[0] == 7 && fabsf(image.pixels[3 * 7] - 25) < 1e-4f);
    assert_int_equal(sp_image_crop(&image, 1, 1, 4, 1, NULL), SPAROA_OK);
    assert_true(fabsf(image.pixels[0] - 25) < 1e-4f);
    assert_int_equal(sp_image_crop(&image, 1, 0, 4, 1, NULL), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sp_image_crop(&image, 0, 0, INT32_MAX, 1, NULL), SPAROA_INVALID_ARGUMENT);
    assert_int_equal(sp_image_resize(&image, 0, 1, true, NULL), SPAROA_INVALID_ARGUMENT);
    sp_image_free(&image);

    image = picture(2, 1);
    float data[6];
    sparoa_tensor tensor = sparoa_tensor_of(SPAROA_FLOAT32, data, 1, 6);
    sp_image_format format = {
        .channels = 3, .bgr = true, .scale = 2, .mean = {1, 0, 0}, .std = {1, 1, 2}};
    sp_image_store(&image, &format, &tensor, 0); /* blue plane first: 2 and 12 */
    assert_true(data[0] == 3 && data[1] == 23 && data[4] == 0 && data[5] == 10);
    format.nhwc = true;
    sp_image_store(&image, &format, &tensor, 0);
    assert_true(data[0] == 3 && data[1] == 2 && data[3] == 23);
    sp_image_free(&image);
    write_bytes(in_folder("x.png"), "\x89PNG\r\n\x1a\n garbage", 16);
    write_bytes(in_folder("x.jpg"), "\xff\xd8\xff\xe0 garbage and more", 20);
    assert_true(sp_image_is(in_folder("x.png")));
    assert_int_not_equal(sp_image_load(in_folder("x.png"), &image, NULL), SPAROA_OK);
    assert_int_not_equal(sp_image_load(in_folder("x.jpg"), &image, NULL), SPAROA_OK);
    assert_int_equal(sp_image_load(in_folder("absent.png"), &image, NULL), SPAROA_NOT_FOUND);
}

/* ---- Comparing ---- */

static sp_difference differ(sparoa_dtype dtype, void *got, void *want, int n, bool quant)
{
    sp_tolerance t = sp_tolerance_default(SP_COMPARE_ONNX);
    t.quant = quant;
    sparoa_tensor a = sparoa_tensor_of(dtype, got, 1, n), b = sparoa_tensor_of(dtype, want, 1, n);
    return sp_compare(&a, &b, &t);
}

static void test_compare(void **state)
{
    (void)state;
    float want[3] = {1, NAN, INFINITY}, good[3] = {1.0005f, NAN, INFINITY};
    float nan[3] = {1, 0, INFINITY}, sign[3] = {1, NAN, -INFINITY}, far[3] = {1.01f, NAN, INFINITY};
    float more[3] = {NAN, NAN, INFINITY};
    assert_true(differ(SPAROA_FLOAT32, good, want, 3, false).same);
    assert_false(differ(SPAROA_FLOAT32, nan, want, 3, false).same);
    assert_false(differ(SPAROA_FLOAT32, sign, want, 3, false).same);
    assert_false(differ(SPAROA_FLOAT32, more, want, 3, false).same);
    sp_difference d = differ(SPAROA_FLOAT32, far, want, 3, false);
    assert_false(d.same);
    assert_int_equal(d.worst, 0);
    assert_int_equal(d.wrong, 1);
    int64_t big[1] = {INT64_MAX}, less[1] = {INT64_MAX - 1};
    assert_false(differ(SPAROA_INT64, big, less, 1, false).same);
    uint8_t q[3] = {10, 20, 30}, r[3] = {11, 19, 30}, s[3] = {10, 30, 29};
    assert_false(differ(SPAROA_UINT8, r, q, 3, false).same);
    assert_true(differ(SPAROA_UINT8, r, q, 3, true).same);
    assert_false(differ(SPAROA_UINT8, s, q, 3, true).same);
    uint8_t flat[2] = {30, 31}, other[2] = {31, 30};
    assert_non_null(strstr(differ(SPAROA_UINT8, flat, other, 2, true).reason, "arg-max"));
    float grid[4] = {-0.5f, 0, 0.25f, 0.75f}, step[4] = {-0.5f, 0.25f, 0.25f, 0.75f};
    assert_false(differ(SPAROA_FLOAT32, step, grid, 4, false).same);
    assert_true(differ(SPAROA_FLOAT32, step, grid, 4, true).same);
    sparoa_tensor a = sparoa_tensor_of(SPAROA_FLOAT32, grid, 2, 2, 2),
                  b = sparoa_tensor_of(SPAROA_FLOAT32, grid, 1, 4);
    sp_tolerance t = sp_tolerance_default(SP_COMPARE_SCALED);
    assert_non_null(strstr(sp_compare(&a, &b, &t).reason, "float32[2,2]"));
    b = sparoa_tensor_of(SPAROA_INT32, grid, 2, 2, 2);
    assert_false(sp_compare(&a, &b, &t).same);
}

static void test_values(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        sparoa_tensor t = sparoa_tensor_of(SPAROA_FLOAT16, &half, 1, 1);
        double value = sp_value_get(&t, 0);
        sp_value_set(&t, 0, value);
        if (!isnan(value)) assert_int_equal(half, bits);
        t.dtype = SPAROA_BFLOAT16;
        half = (uint16_t)bits;
        value = sp_value_get(&t, 0);
        sp_value_set(&t, 0, value);
        if (!isnan(value)) assert_int_equal(half, bits);
    }
    int8_t small = 0;
    sparoa_tensor t = sparoa_tensor_of(SPAROA_INT8, &small, 1, 1);
    sp_value_set(&t, 0, 1000);
    assert_int_equal(small, 127);
    sp_value_set(&t, 0, NAN);
    assert_int_equal(small, 0);
}

static void test_layout_copy(void **state)
{
    (void)state;
    float nhwc[12], *copy;
    for (int i = 0; i < 12; i++) nhwc[i] = (float)i;
    sparoa_tensor in = sparoa_tensor_of(SPAROA_FLOAT32, nhwc, 4, 1, 2, 2, 3), out;
    assert_true(sp_tensor_copy(&in, "NHWC", &out));
    copy = out.data;
    assert_int_equal(out.dims[1], 3);
    assert_int_equal(out.dims[3], 2);
    assert_true(copy[0] == 0 && copy[1] == 3 && copy[4] == 1 && copy[11] == 11);
    sp_value_map map = {0};
    char name[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "v%d", i % 700);
        nhwc[0] = (float)i;
        sp_value_map_put(&map, "n", name, &in, NULL);
    }
    assert_false(map.failed);
    assert_int_equal(map.count, 700);
    const float *kept = sp_value_map_get(&map, "v299")->tensor.data;
    assert_true(kept[0] == 999);
    assert_null(sp_value_map_get(&map, "v700"));
    sp_value_map_free(&map);
    free(copy);
}

static void test_figures(void **state)
{
    (void)state;
    sp_samples samples = {0};
    for (int i = 100; i >= 0; i--) assert_true(sp_samples_add(&samples, i));
    sp_stats s = sp_stats_of(&samples);
    assert_true(s.p50 == 50 && s.p90 == 90 && s.p99 == 99 && s.min == 0 && s.max == 100 &&
                s.mean == 50);
    sp_samples_free(&samples);
    assert_true(isnan(sp_stats_of(&samples).mean));
    sp_table t;
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    sp_table_init(&t, "<name|n");
    sp_table_add(&t, "a,\"b\"");
    sp_table_add(&t, "%d", 3);
    sp_table_csv(&t, file);
    sp_table_print(&t, file);
    sp_table_markdown(&t, file);
    fclose(file);
    assert_string_equal(text, "name,n\n\"a,\"\"b\"\"\",3\nname   n\na,\"b\"  3\n| name | n "
                              "|\n|---|---:|\n| a,\"b\" | 3 |\n");
    free(text);
    sp_table_free(&t);
    char name[32];
    sp_cli_file_name(name, sizeof name, "../a b/c:0");
    assert_string_equal(name, "_._a_b_c_0");
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"a.npy", "e.npy", "h.npy", "x.png", "x.jpg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(in_folder(names[i]));
    return rmdir(folder);
}

/* test_cli FILE...: checks that the files are JSON; for cli.sh where there is no python3. */
static int check_files(int count, char **paths)
{
    static char text[1 << 20];
    for (int i = 0; i < count; i++) {
        FILE *file = fopen(paths[i], "rb");
        size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
        text[n] = 0;
        if (file) fclose(file);
        if (!sp_json_valid(text)) return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1) return check_files(argc - 1, argv + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args),    cmocka_unit_test(test_json),
        cmocka_unit_test(test_npy),     cmocka_unit_test(test_npy_hostile),
        cmocka_unit_test(test_image),   cmocka_unit_test(test_compare),
        cmocka_unit_test(test_values),  cmocka_unit_test(test_layout_copy),
        cmocka_unit_test(test_figures),
    };
    return cmocka_run_group_tests_name("cli", tests, setup, teardown);
}
