/* Soft Actor-Critic: making, acting, remembering, one update. The losses are in sac_loss.c. */
#include "schedule/sac.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "schedule/sac_parts.h"
#include "sparoa_backend.h"

enum { MAX_WIDTH = 4096, MAX_HIDDEN = 1024, MAX_BATCH = 4096, MAX_REPLAY = 1 << 24 };

static sparoa_status check(const sp_sac_options *o, sparoa_error *err)
{
    if (o->obs < 1 || o->obs > MAX_WIDTH || o->actions < 1 || o->actions > MAX_WIDTH ||
        (o->discrete && o->actions > MAX_HIDDEN))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "SAC: obs=%u, actions=%u, expected 1..%d", o->obs, o->actions,
                           MAX_WIDTH);
    if (o->hidden > MAX_HIDDEN || o->batch > MAX_BATCH || o->replay > MAX_REPLAY)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "SAC: hidden=%u, batch=%u, replay=%u, expected at most %d, %d, %d",
                           o->hidden, o->batch, o->replay, MAX_HIDDEN, MAX_BATCH, MAX_REPLAY);
    if (!(o->rate >= 0 && o->rate <= 1 && o->gamma >= 0 && o->gamma <= 1 && o->tau >= 0 &&
          o->tau <= 1 && o->alpha >= 0 && o->alpha < 1e6 && o->initial_alpha >= 0 &&
          o->initial_alpha < 1e6 && isfinite(o->target_entropy) && o->imitation >= 0))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "SAC: rate=%g, gamma=%g, tau=%g, expected 0..1; alpha=%g, "
                           "initial_alpha=%g, target_entropy=%g, expected finite numbers",
                           o->rate, o->gamma, o->tau, o->alpha, o->initial_alpha,
                           o->target_entropy);
    return SPAROA_OK;
}

static sp_sac_options with_defaults(sp_sac_options o)
{
    if (!o.hidden) o.hidden = 64;
    if (!o.batch) o.batch = 256;
    if (!o.replay) o.replay = 20000;
    if (o.rate == 0) o.rate = 1e-3;
    if (o.gamma == 0) o.gamma = 0.99;
    if (o.tau == 0) o.tau = 0.005;
    if (o.initial_alpha == 0) o.initial_alpha = 1;
    if (o.target_entropy == 0)
        o.target_entropy = o.discrete ? 0.3 * log(o.actions) : -(double)o.actions;
    return o;
}

/* Arrays of the arena; false once one failed. */
static void take(sp_sac *s, float **p, size_t rows, size_t columns, bool *ok)
{
    *p = *ok ? sp_arena_alloc(&s->arena, (rows * columns + 1) * sizeof(float)) : NULL;
    *ok = *p != NULL;
}

static bool take_all(sp_sac *s)
{
    bool ok = true;
    size_t n = s->o.obs, b = s->o.batch, r = s->o.replay, a = s->o.actions, w = s->width;
    size_t in = s->q[0].linear[0].in, qn = s->q[0].linear[2].out;
    take(s, &s->params, s->count, 1, &ok);
    take(s, &s->targets, s->count, 1, &ok);
    take(s, &s->grads, s->count, 1, &ok);
    take(s, &s->m_obs, r, n, &ok);
    take(s, &s->m_action, r, w, &ok);
    take(s, &s->m_reward, r, 1, &ok);
    take(s, &s->m_next, r, n, &ok);
    take(s, &s->m_done, r, 1, &ok);
    take(s, &s->m_shown, r, 1, &ok);
    take(s, &s->obs, b, n, &ok);
    take(s, &s->action, b, w, &ok);
    take(s, &s->reward, b, 1, &ok);
    take(s, &s->next, b, n, &ok);
    take(s, &s->done, b, 1, &ok);
    take(s, &s->shown, b, 1, &ok);
    take(s, &s->noise, b, w, &ok);
    take(s, &s->next_noise, b, w, &ok);
    take(s, &s->out, b, s->head, &ok);
    take(s, &s->dout, b, s->head, &ok);
    take(s, &s->act, b, a, &ok);
    take(s, &s->logp, b, a, &ok);
    take(s, &s->in, b, in, &ok);
    take(s, &s->dvalue, b, qn, &ok);
    take(s, &s->goal, b, 1, &ok);
    take(s, &s->single, 1, s->head + 2 * a, &ok);
    for (int i = 0; i < 2; i++) {
        take(s, &s->din[i], b, in, &ok);
        take(s, &s->value[i], b, qn, &ok);
        take(s, &s->q_cache[i], sp_nn_mlp_cache(&s->q[i], b), 1, &ok);
    }
    take(s, &s->q_work, sp_nn_mlp_cache(&s->q[0], b), 1, &ok);
    take(s, &s->policy_cache, sp_nn_mlp_cache(&s->policy, b), 1, &ok);
    take(s, &s->policy_work, sp_nn_mlp_cache(&s->policy, b), 1, &ok);
    return ok;
}

static bool build(sp_sac *s)
{
    const sp_sac_options *o = &s->o;
    size_t in = o->discrete ? o->obs : o->obs + o->actions, qn = o->discrete ? o->actions : 1;
    s->width = o->discrete ? 1 : o->actions;
    s->head = o->discrete ? o->actions : 2 * (size_t)o->actions;
    size_t h = o->hidden;
    s->policy = sp_nn_mlp_make(&s->count, SP_ACT_RELU, 3, (size_t[]){o->obs, h, h, s->head});
    s->policy_count = s->count;
    for (int i = 0; i < 2; i++)
        s->q[i] = sp_nn_mlp_make(&s->count, SP_ACT_RELU, 3, (size_t[]){in, h, h, qn});
    if (!take_all(s)) return false;
    sp_nn_rng rng = {.key = sp_rng_stream(o->seed, 0)};
    sp_nn_mlp_init(&s->policy, s->params, &rng);
    for (int i = 0; i < 2; i++) sp_nn_mlp_init(&s->q[i], s->params, &rng);
    memcpy(s->targets, s->params, s->count * sizeof(float));
    s->explore.key = sp_rng_stream(o->seed, 1);
    s->draw.key = sp_rng_stream(o->seed, 2);
    s->log_alpha = log(o->alpha > 0 ? o->alpha : o->initial_alpha);
    return sp_nn_adam_init(&s->adam_policy, &s->alloc, s->policy_count, o->rate) &&
           sp_nn_adam_init(&s->adam_q, &s->alloc, s->count - s->policy_count, o->rate) &&
           sp_nn_adam_init(&s->adam_alpha, &s->alloc, 1, o->rate);
}

sparoa_status sp_sac_create(const sparoa_allocator *alloc, const sp_kernels *kernels,
                            const sp_sac_options *options, sp_sac **sac, sparoa_error *err)
{
    sparoa_status status = check(options, err);
    if (status) return status;
    sp_sac *s = sp_calloc(alloc, 1, sizeof *s);
    if (!s) return sp_no_memory(alloc, sizeof *s, err);
    s->alloc = *alloc;
    s->o = with_defaults(*options);
    sp_arena_init(&s->arena, alloc);
    sp_nn_init(&s->nn, kernels, alloc);
    if (!build(s)) {
        sp_sac_destroy(s);
        return sp_no_memory(alloc, options->replay * sizeof(float), err);
    }
    *sac = s;
    return SPAROA_OK;
}

void sp_sac_destroy(sp_sac *s)
{
    if (!s) return;
    sparoa_allocator alloc = s->alloc;
    sp_nn_adam_release(&s->adam_policy, &alloc);
    sp_nn_adam_release(&s->adam_q, &alloc);
    sp_nn_adam_release(&s->adam_alpha, &alloc);
    sp_nn_release(&s->nn);
    sp_arena_destroy(&s->arena);
    sp_free(&alloc, s, sizeof *s);
}

void sp_sac_policy(sp_sac *s, size_t rows, const float *obs, float *out)
{
    if (rows > s->o.batch) rows = s->o.batch;
    sp_nn_mlp_forward(&s->nn, &s->policy, s->params, rows, obs, s->out, s->policy_cache);
    if (s->o.discrete) {
        s->nn.kernels->softmax_f32(rows, s->head, s->out, out);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < s->width; j++)
            out[r * s->width + j] = tanhf(s->out[r * s->head + j]);
}

static float choose(sp_sac *s, const float *p, bool explore)
{
    size_t best = 0;
    if (!explore) {
        for (size_t j = 1; j < s->o.actions; j++)
            if (p[j] > p[best]) best = j;
        return (float)best;
    }
    double u = sp_nn_uniform(&s->explore);
    while (best + 1 < s->o.actions && u >= (double)p[best]) u -= (double)p[best++];
    return (float)best;
}

void sp_sac_act(sp_sac *s, const float *obs, bool explore, float *action)
{
    float *p = s->single, *noise = p + s->head, *logp = noise + s->o.actions;
    if (s->o.discrete || !explore) {
        sp_sac_policy(s, 1, obs, s->o.discrete ? p : action);
        if (s->o.discrete) action[0] = choose(s, p, explore);
        return;
    }
    sp_nn_mlp_forward(&s->nn, &s->policy, s->params, 1, obs, p, s->policy_cache);
    for (size_t j = 0; j < s->width; j++) noise[j] = (float)sp_nn_normal(&s->explore);
    sp_sac_squash(s, 1, p, noise, action, logp);
}

void sp_sac_observe(sp_sac *s, const float *obs, const float *action, double reward,
                    const float *next, bool done)
{
    size_t i = s->position, n = s->o.obs;
    memcpy(s->m_obs + i * n, obs, n * sizeof(float));
    memcpy(s->m_action + i * s->width, action, s->width * sizeof(float));
    memcpy(s->m_next + i * n, next, n * sizeof(float));
    s->m_reward[i] = (float)reward;
    s->m_done[i] = done;
    s->m_shown[i] = s->showing;
    s->position = (i + 1) % s->o.replay;
    if (s->stored < s->o.replay) s->stored++;
}

void sp_sac_shown(sp_sac *s, bool shown)
{
    s->showing = shown;
}

uint32_t sp_sac_choice(const sp_sac *s, const float *obs)
{
    float layer[2][MAX_HIDDEN];
    const float *x = obs;
    for (size_t k = 0; k < s->policy.layers; k++) {
        const sp_nn_linear *l = &s->policy.linear[k];
        float *y = layer[k & 1];
        memcpy(y, s->params + l->b, l->out * sizeof *y);
        for (size_t i = 0; i < l->in; i++) {
            const float *w = s->params + l->w + i * l->out;
            if (x[i] == 0) continue;
            for (size_t j = 0; j < l->out; j++) y[j] += x[i] * w[j];
        }
        for (size_t j = 0; k + 1 < s->policy.layers && j < l->out; j++) y[j] = y[j] > 0 ? y[j] : 0;
        x = y;
    }
    uint32_t best = 0;
    for (uint32_t j = 1; j < s->o.actions; j++)
        if (x[j] > x[best]) best = j;
    return best;
}

void sp_sac_forget(sp_sac *s)
{
    s->stored = s->position = 0;
}

static void draw_batch(sp_sac *s)
{
    size_t n = s->o.obs, w = s->width;
    for (size_t r = 0; r < s->o.batch; r++) {
        size_t i = sp_nn_below(&s->draw, s->stored);
        memcpy(s->obs + r * n, s->m_obs + i * n, n * sizeof(float));
        memcpy(s->next + r * n, s->m_next + i * n, n * sizeof(float));
        memcpy(s->action + r * w, s->m_action + i * w, w * sizeof(float));
        s->reward[r] = s->m_reward[i];
        s->done[r] = s->m_done[i];
        s->shown[r] = s->m_shown[i];
    }
    if (s->o.discrete) return;
    for (size_t i = 0; i < s->o.batch * w; i++) {
        s->noise[i] = (float)sp_nn_normal(&s->draw);
        s->next_noise[i] = (float)sp_nn_normal(&s->draw);
    }
}

sparoa_status sp_sac_update(sp_sac *s, sp_sac_losses *losses, sparoa_error *err)
{
    size_t first = s->policy_count, critics = s->count - first;
    sp_sac_losses l = {0};
    if (s->stored == 0)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL,
                           "SAC: nothing in the replay memory to learn from");
    draw_batch(s);
    memset(s->grads, 0, s->count * sizeof(float));
    l.critic = sp_sac_critic_loss(s);
    sp_nn_adam_step(&s->adam_q, s->params + first, s->grads + first);
    l.policy = sp_sac_policy_loss(s, &l.entropy);
    sp_nn_adam_step(&s->adam_policy, s->params, s->grads);
    if (!(s->o.alpha > 0)) {
        float p = (float)s->log_alpha, g = (float)(l.entropy - s->o.target_entropy);
        sp_nn_adam_step(&s->adam_alpha, &p, &g);
        s->log_alpha = fmin(fmax((double)p, -16), 16);
    }
    float tau = (float)s->o.tau;
    for (size_t i = first; i < first + critics; i++)
        s->targets[i] += tau * (s->params[i] - s->targets[i]);
    l.alpha = exp(s->log_alpha);
    if (s->nn.failed) return sp_no_memory(&s->alloc, s->nn.packed_floats * sizeof(float), err);
    if (losses) *losses = l;
    return SPAROA_OK;
}
