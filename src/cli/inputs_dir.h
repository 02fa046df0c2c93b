/* inputs_dir.h - a folder of calibration inputs: one set of a model's inputs after the other. */
#ifndef SP_CLI_INPUTS_DIR_H
#define SP_CLI_INPUTS_DIR_H

#include "cli/job.h"

/* Each .npy, .pb, PNG or JPEG of the folder is a set for the model's first input; a subfolder that
 * holds such files (as ONNX's test_data_set_*, whose outputs are left out) is a set of several. */
typedef struct sp_inputs_dir {
    sp_strings *sets; /* files of each set, in the order of names; the texts are owned */
    size_t count;
} sp_inputs_dir;

/* Prints the fault and returns an exit code, or -1 to go on. */
int sp_inputs_dir_open(const sp_cli *cli, const char *folder, sp_inputs_dir *dir);
void sp_inputs_dir_close(sp_inputs_dir *dir);

/* Puts the index-th set in place of the job's inputs; `feed` says how pictures are read. All sets
 * must have the shapes of the first. */
int sp_inputs_dir_use(const sp_cli *cli, const sp_inputs_dir *dir, size_t index,
                      const sp_feed *feed, sp_job *job);

#endif
