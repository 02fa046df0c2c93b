/* Reading of PNG and JPEG files. */
#include "cli/image.h"

#include "cli/npy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SP_HAVE_JPEG
#include <jpeglib.h>
#endif
#ifdef SP_HAVE_PNG
#include <png.h>
#endif

enum { MAX_PIXELS = 1 << 27 };

static const unsigned char png_magic[4] = {0x89, 'P', 'N', 'G'}, jpeg_magic[3] = {0xff, 0xd8, 0xff};

bool sp_image_is(const char *path)
{
    unsigned char first[4] = {0};
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    size_t n = fread(first, 1, 4, file);
    fclose(file);
    return n == 4 && (!memcmp(first, png_magic, 4) || !memcmp(first, jpeg_magic, 3));
}

static sparoa_status make(const char *path, size_t width, size_t height, sp_image *image,
                          sparoa_error *err)
{
    if (!width || !height || width > MAX_PIXELS || height > MAX_PIXELS / width)
        return sp_cli_error_set(err, SPAROA_TOO_LARGE,
                                "%s: %zu by %zu pixels, expected 1 to %d in all", path, width,
                                height, MAX_PIXELS);
    float *pixels = malloc(width * height * 3 * sizeof *pixels);
    if (!pixels)
        return sp_cli_error_set(err, SPAROA_OUT_OF_MEMORY, "%s: no memory for the picture", path);
    *image = (sp_image){(int)width, (int)height, pixels};
    return SPAROA_OK;
}

#ifdef SP_HAVE_PNG
static sparoa_status load_png(const char *path, sp_image *image, sparoa_error *err)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_file(&png, path))
        return sp_cli_error_set(err, SPAROA_MALFORMED, "%s: %s", path, png.message);
    sp_image made = {0};
    png.format = PNG_FORMAT_RGBA;
    sparoa_status status = make(path, png.width, png.height, &made, err);
    size_t count = (size_t)png.width * png.height;
    png_byte *bytes = status ? NULL : malloc(count * 4);
    if (!bytes) {
        png_image_free(&png);
        sp_image_free(&made);
        return status ? status : sp_cli_error_set(err, SPAROA_OUT_OF_MEMORY, "%s: no memory", path);
    }
    if (!png_image_finish_read(&png, NULL, bytes, 0, NULL)) {
        free(bytes);
        sp_image_free(&made);
        return sp_cli_error_set(err, SPAROA_MALFORMED, "%s: %s", path, png.message);
    }
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++) made.pixels[3 * i + c] = bytes[4 * i + c];
    free(bytes);
    *image = made;
    return SPAROA_OK;
}
#endif

#ifdef SP_HAVE_JPEG
/* All that must outlive a jump out of the library lives here, outside the frame that calls setjmp.
 */
typedef struct jpeg_job {
    struct jpeg_error_mgr manager; /* first: the library hands back a pointer to it */
    struct jpeg_decompress_struct info;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
    const char *path;
    sp_image image;
    unsigned char *row;
} jpeg_job;

static void jpeg_stop(j_common_ptr info)
{
    jpeg_job *job = (jpeg_job *)info->err;
    job->manager.format_message(info, job->text);
    longjmp(job->back, 1);
}

static void jpeg_quiet(j_common_ptr info, int level)
{
    (void)info;
    (void)level;
}

static sparoa_status jpeg_decode(jpeg_job *job, FILE *file, sparoa_error *err)
{
    if (setjmp(job->back))
        return sp_cli_error_set(err, SPAROA_MALFORMED, "%s: %s", job->path, job->text);
    struct jpeg_decompress_struct *info = &job->info;
    jpeg_create_decompress(info);
    jpeg_stdio_src(info, file);
    jpeg_read_header(info, TRUE);
    info->out_color_space = JCS_RGB;
    jpeg_start_decompress(info);
    sparoa_status status =
        make(job->path, info->output_width, info->output_height, &job->image, err);
    if (status) return status;
    size_t line = 3 * (size_t)job->image.width;
    job->row = malloc(line);
    if (!job->row) return sp_cli_error_set(err, SPAROA_OUT_OF_MEMORY, "%s: no memory", job->path);
    while (info->output_scanline < info->output_height) {
        float *out = job->image.pixels + info->output_scanline * line;
        JSAMPROW rows[1] = {job->row};
        if (jpeg_read_scanlines(info, rows, 1) != 1) break;
        for (size_t i = 0; i < line; i++) out[i] = job->row[i];
    }
    return SPAROA_OK;
}

static sparoa_status load_jpeg(FILE *file, const char *path, sp_image *image, sparoa_error *err)
{
    jpeg_job job = {.path = path};
    job.info.err = jpeg_std_error(&job.manager);
    job.manager.error_exit = jpeg_stop;
    job.manager.emit_message = jpeg_quiet;
    sparoa_status status = jpeg_decode(&job, file, err);
    jpeg_destroy_decompress(&job.info);
    free(job.row);
    if (status)
        sp_image_free(&job.image);
    else
        *image = job.image;
    return status;
}
#endif

sparoa_status sp_image_load(const char *path, sp_image *image, sparoa_error *err)
{
    unsigned char first[4] = {0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return sp_cli_error_set(err, errno == ENOENT ? SPAROA_NOT_FOUND : SPAROA_IO, "%s: %s", path,
                                strerror(errno));
    size_t n = fread(first, 1, 4, file);
    rewind(file);
    sparoa_status status =
        sp_cli_error_set(err, SPAROA_UNSUPPORTED_TYPE,
                         "%s: expected a PNG or JPEG picture that this build can read", path);
#ifdef SP_HAVE_PNG
    if (n == 4 && !memcmp(first, png_magic, 4)) status = load_png(path, image, err);
#endif
#ifdef SP_HAVE_JPEG
    if (n == 4 && !memcmp(first, jpeg_magic, 3)) status = load_jpeg(file, path, image, err);
#endif
    fclose(file);
    return status;
}

void sp_image_free(sp_image *image)
{
    free(image->pixels);
    *image = (sp_image){0};
}
