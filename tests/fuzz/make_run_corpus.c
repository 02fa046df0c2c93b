/* Writes models that run as a corpus for fuzz_run: those of the tests, and small random ones.
 * Usage: make_run_corpus FOLDER */
#include "tests/engine/random_build.h"

#define RANDOM_MODELS 48

static int save(const char *folder, const char *name, const mb_model *m)
{
    char path[1024];
    size_t size;
    uint8_t *bytes = mb_pack(m, &size);
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f) return 1;
    int failed = fwrite(bytes, 1, size, f) != size;
    return fclose(f) || failed;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    int failed = save(argv[1], "small", ts_small_net()) |
                 save(argv[1], "nonzero", ts_nonzero_net()) |
                 save(argv[1], "control", ts_control_net(3)) | save(argv[1], "scan", ts_scan_net());
    for (uint64_t seed = 0; seed < RANDOM_MODELS; seed++) {
        rg *r = malloc(sizeof *r);
        char name[24];
        rg_build_steps(r, 90000 + seed, 5);
        snprintf(name, sizeof name, "random_%02d", (int)seed);
        failed |= save(argv[1], name, r->model);
        mb_end();
        free(r);
    }
    return failed;
}
