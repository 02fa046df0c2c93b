/* sac_parts.h - the inside of a learner, for sac*.c and for tests of the gradients. */
#ifndef SP_SCHEDULE_SAC_PARTS_H
#define SP_SCHEDULE_SAC_PARTS_H

#include "nn/nn.h"
#include "schedule/sac.h"

struct sp_sac {
    sparoa_allocator alloc;
    sp_arena arena;
    sp_sac_options o;
    sp_nn nn;
    sp_nn_rng explore, draw;
    size_t width, head; /* floats of an action as stored; outputs of the policy network */
    sp_nn_mlp policy, q[2];
    size_t policy_count, count;      /* parameters of the policy, of all three networks */
    float *params, *targets, *grads; /* targets: of the critics, at the same offsets */
    double log_alpha;
    sp_nn_adam adam_policy, adam_q, adam_alpha;

    /* replay memory: a ring */
    float *m_obs, *m_action, *m_reward, *m_next, *m_done, *m_shown;
    size_t stored, position;
    bool showing;

    /* the batch at hand, [batch][...] */
    float *obs, *action, *reward, *next, *done, *shown, *noise, *next_noise;
    /* intermediate results */
    float *out, *dout, *act, *logp, *in, *din[2], *value[2], *dvalue, *goal, *single;
    float *policy_cache, *policy_work, *q_cache[2], *q_work;
};

/* Over the batch at hand (noise included): the loss, and its gradient added to sac->grads. */
double sp_sac_critic_loss(sp_sac *sac); /* sum of both mean squared errors; targets as goals */
double sp_sac_policy_loss(sp_sac *sac, double *entropy);

/* Actions and their log-probabilities (continuous), or probabilities and their logarithms
 * (discrete), from what the policy network put out. */
void sp_sac_squash(const sp_sac *sac, size_t rows, const float *out, const float *noise, float *act,
                   float *logp);

#endif
