/* Runs a fuzz target over all files of a folder, without libFuzzer: so the corpus, and with it
 * every bug that fuzzing ever found, is part of the ordinary tests. Each file is tried whole and
 * cut off at 16 places. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return 1;
    static uint8_t bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (size_t i = 1; i <= 16; i++) {
        size_t n = size * i / 16;
        uint8_t *exact = malloc(n ? n : 1); /* of its own, so that reading past it is seen */
        if (!exact) return 1;
        memcpy(exact, bytes, n);
        LLVMFuzzerTestOneInput(exact, n);
        free(exact);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int files = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(folder)) != NULL;) {
            char path[4096];
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            failed += replay(path);
            files++;
        }
        closedir(folder);
    }
    printf("%d files, %d unreadable\n", files, failed);
    return failed || files == 0;
}
