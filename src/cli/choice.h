/* choice.h - what a session with --device auto measured and chose, for people and as JSON. */
#ifndef SP_CLI_CHOICE_H
#define SP_CLI_CHOICE_H

#include "cli/job.h"

/* With --device auto: measures for the job's inputs unless the cache has decided for them; nothing
 * otherwise. An exit code, or -1. */
int sp_job_tune(const sp_cli *cli, sp_job *job);

/* The choice for the job's inputs; nothing unless --device is auto. */
void sp_choice_print(const sp_cli *cli, const sp_job *job);
void sp_choice_json(sp_json *json, const sp_cli *cli, const sp_job *job);

#endif
