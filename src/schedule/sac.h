/*
 * sac.h - Soft Actor-Critic (Haarnoja et al. 2018; the discrete form: Christodoulou 2019), for any
 * task that gives observations and takes actions. Twin critics with target networks, temperature
 * tuned to a target entropy, uniform replay. What places operators with it is policy_sac.c.
 *
 * Continuous: an action is `actions` numbers in -1..1, drawn from a squashed Gaussian.
 * Discrete: an action is one of `actions` choices, given as a float in action[0].
 *
 * A run is a function of the options, the seed and the transitions: same machine type, same bits.
 */
#ifndef SP_SCHEDULE_SAC_H
#define SP_SCHEDULE_SAC_H

#include "base/mem.h"
#include "kernels/cpu/kernels.h"

typedef struct sp_sac sp_sac;

/* Zero means the default in brackets; obs and actions must be set. */
typedef struct sp_sac_options {
    uint32_t obs, actions; /* numbers in an observation; of an action, or choices; 1..4096 */
    bool discrete;
    uint32_t hidden;       /* units of both hidden layers [64]; at most 1024 */
    uint32_t batch;        /* transitions per update [256]; at most 4096 */
    uint32_t replay;       /* transitions kept [20000] */
    double rate;           /* of Adam, all networks [1e-3] */
    double gamma;          /* discount [0.99] */
    double tau;            /* share by which targets follow per update [0.005] */
    double target_entropy; /* [-actions; discrete: 0.3 log(actions)] */
    double alpha;          /* fixed temperature; [0: tuned] */
    double initial_alpha;  /* where tuning starts [1] */
    double imitation;      /* discrete: weight of -log p(action) of what was shown [0] */
    uint64_t seed;
} sp_sac_options;

/* Fails with INVALID_ARGUMENT naming the option, or for want of memory. */
sparoa_status sp_sac_create(const sparoa_allocator *alloc, const sp_kernels *kernels,
                            const sp_sac_options *options, sp_sac **sac, sparoa_error *err);
void sp_sac_destroy(sp_sac *sac);

/* The action for an observation: drawn, or with explore false the mean (the likeliest choice). */
void sp_sac_act(sp_sac *sac, const float *obs, bool explore, float *action);
/* What the policy makes of `rows` observations (at most the batch): discrete: the probabilities,
 * [rows][actions]; continuous: the mean actions. */
void sp_sac_policy(sp_sac *sac, size_t rows, const float *obs, float *out);

/* Remembers a transition. done: next has no value (the task ended; not: a time limit cut it off).
 */
void sp_sac_observe(sp_sac *sac, const float *obs, const float *action, double reward,
                    const float *next, bool done);
/* Whether what is observed from now on was done by a teacher: the policy loss imitates it. */
void sp_sac_shown(sp_sac *sac, bool shown);
/* The likeliest choice for one observation, by plain loops: for a policy that is asked node by
 * node. Reads only; threads may share the learner. Discrete only. */
uint32_t sp_sac_choice(const sp_sac *sac, const float *obs);
/* Empties the replay memory. */
void sp_sac_forget(sp_sac *sac);

/* One gradient step of critics, policy and temperature on a batch from the replay memory, which
 * must hold something. */
typedef struct sp_sac_losses {
    double critic, policy, entropy, alpha;
} sp_sac_losses;
sparoa_status sp_sac_update(sp_sac *sac, sp_sac_losses *losses, sparoa_error *err);

/* Networks, targets and temperature as a file (little-endian; magic, version, sizes, checksum);
 * replay memory and the moments of Adam are not in it. `schema` says what observations mean; a file
 * of another is refused. */
size_t sp_sac_file_bytes(const sp_sac *sac);
void sp_sac_save(const sp_sac *sac, uint32_t schema, unsigned char *file);
/* Into a learner with the same sizes. MALFORMED or UNSUPPORTED_VERSION for anything else, and the
 * learner is as before. */
sparoa_status sp_sac_load(sp_sac *sac, uint32_t schema, const unsigned char *file, size_t bytes,
                          sparoa_error *err);

#endif
