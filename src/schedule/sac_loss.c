/* The losses of Soft Actor-Critic and their gradients, written out. */
#include <math.h>
#include <string.h>

#include "schedule/sac_parts.h"

/* The logarithm of the deviation, squashed smoothly into this range. */
#define LOG_STD_LOW (-5.0)
#define LOG_STD_HIGH 2.0

/* log(1 - tanh(u)^2), without the cancellation. */
static double log_slope(double u)
{
    double a = fabs(u);
    return 2 * (0.6931471805599453 - a - log1p(exp(-2 * a)));
}

static double log_std(double raw)
{
    return LOG_STD_LOW + 0.5 * (LOG_STD_HIGH - LOG_STD_LOW) * (tanh(raw) + 1);
}

static void squash_discrete(size_t rows, size_t n, const float *out, float *p, float *logp)
{
    for (size_t r = 0; r < rows; r++, out += n, p += n, logp += n) {
        double most = (double)out[0], sum = 0;
        for (size_t j = 1; j < n; j++) most = fmax(most, (double)out[j]);
        for (size_t j = 0; j < n; j++) sum += exp((double)out[j] - most);
        for (size_t j = 0; j < n; j++) {
            double l = (double)out[j] - most - log(sum);
            logp[j] = (float)l;
            p[j] = (float)exp(l);
        }
    }
}

void sp_sac_squash(const sp_sac *s, size_t rows, const float *out, const float *noise, float *act,
                   float *logp)
{
    size_t n = s->o.actions;
    if (s->o.discrete) {
        squash_discrete(rows, n, out, act, logp);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++) {
            double e = (double)noise[r * n + j], ls = log_std((double)out[r * 2 * n + n + j]);
            double u = (double)out[r * 2 * n + j] + exp(ls) * e;
            act[r * n + j] = (float)tanh(u);
            sum += -0.5 * e * e - ls - 0.9189385332046727 - log_slope(u);
        }
        logp[r] = (float)sum;
    }
}

/* What the critics read: observations, with the actions behind where those are numbers. */
static const float *critic_input(sp_sac *s, const float *obs, const float *act)
{
    size_t n = s->o.obs, w = s->width;
    if (s->o.discrete) return obs;
    for (size_t r = 0; r < s->o.batch; r++) {
        memcpy(s->in + r * (n + w), obs + r * n, n * sizeof(float));
        memcpy(s->in + r * (n + w) + n, act + r * w, w * sizeof(float));
    }
    return s->in;
}

static void both_critics(sp_sac *s, const float *params, const float *in)
{
    for (int i = 0; i < 2; i++)
        sp_nn_mlp_forward(&s->nn, &s->q[i], params, s->o.batch, in, s->value[i], s->q_cache[i]);
}

/* goal = reward + gamma (what the next observation is worth, entropy included). */
static void make_goals(sp_sac *s)
{
    size_t n = s->o.actions, b = s->o.batch;
    double alpha = exp(s->log_alpha);
    sp_nn_mlp_forward(&s->nn, &s->policy, s->params, b, s->next, s->out, s->policy_cache);
    sp_sac_squash(s, b, s->out, s->next_noise, s->act, s->logp);
    both_critics(s, s->targets, critic_input(s, s->next, s->act));
    for (size_t r = 0; r < b; r++) {
        double v = 0;
        if (s->o.discrete)
            for (size_t j = r * n; j < (r + 1) * n; j++)
                v += (double)s->act[j] *
                     ((double)fminf(s->value[0][j], s->value[1][j]) - alpha * (double)s->logp[j]);
        else
            v = (double)fminf(s->value[0][r], s->value[1][r]) - alpha * (double)s->logp[r];
        s->goal[r] = (float)((double)s->reward[r] + s->o.gamma * (1 - (double)s->done[r]) * v);
    }
}

double sp_sac_critic_loss(sp_sac *s)
{
    size_t b = s->o.batch, n = s->o.discrete ? s->o.actions : 1;
    double loss = 0;
    make_goals(s);
    const float *in = critic_input(s, s->obs, s->action);
    both_critics(s, s->params, in);
    for (int i = 0; i < 2; i++) {
        memset(s->dvalue, 0, b * n * sizeof(float));
        for (size_t r = 0; r < b; r++) {
            size_t j = r * n + (s->o.discrete ? (size_t)s->action[r] : 0);
            double d = (double)s->value[i][j] - (double)s->goal[r];
            loss += d * d / (double)b;
            s->dvalue[j] = (float)(2 * d / (double)b);
        }
        sp_nn_mlp_backward(&s->nn, &s->q[i], s->params, b, in, s->dvalue, NULL, s->grads,
                           s->q_cache[i], s->q_work);
    }
    return loss;
}

/* mean over the batch of sum_a p(a) (alpha log p(a) - Q(a)), and -imitation log p(action) of what
 * was shown */
static double discrete_loss(sp_sac *s, double alpha, double *entropy)
{
    size_t b = s->o.batch, n = s->o.actions;
    double loss = 0, h = 0;
    both_critics(s, s->params, s->obs);
    for (size_t r = 0; r < b; r++) {
        const float *p = s->act + r * n, *logp = s->logp + r * n;
        float *d = s->dout + r * n;
        double mean = 0;
        for (size_t j = 0; j < n; j++) {
            double q = (double)fminf(s->value[0][r * n + j], s->value[1][r * n + j]);
            d[j] = (float)(alpha * (double)logp[j] - q);
            mean += (double)p[j] * (double)d[j];
            h -= (double)p[j] * (double)logp[j] / (double)b;
        }
        loss += mean / (double)b;
        double w = s->shown[r] != 0 ? s->o.imitation : 0;
        size_t act = (size_t)s->action[r];
        loss -= w * (double)logp[act] / (double)b;
        for (size_t j = 0; j < n; j++)
            d[j] = (float)((double)p[j] * ((double)d[j] - mean + w) / (double)b);
        d[act] -= (float)(w / (double)b);
    }
    *entropy = h;
    return loss;
}

/* The slope of the smaller critic by the action, per row, in din[0]. */
static void critic_slopes(sp_sac *s, const float *in)
{
    size_t b = s->o.batch, width = s->q[0].linear[0].in;
    for (size_t r = 0; r < b; r++) s->dvalue[r] = 1;
    for (int i = 0; i < 2; i++)
        sp_nn_mlp_backward(&s->nn, &s->q[i], s->params, b, in, s->dvalue, s->din[i], NULL,
                           s->q_cache[i], s->q_work);
    for (size_t r = 0; r < b; r++)
        if (s->value[1][r] < s->value[0][r])
            memcpy(s->din[0] + r * width, s->din[1] + r * width, width * sizeof(float));
}

/* mean over the batch of alpha log p(a) - Q(a), a = tanh(mean + deviation * noise) */
static double continuous_loss(sp_sac *s, double alpha, double *entropy)
{
    size_t b = s->o.batch, n = s->o.actions, width = s->o.obs + n;
    double loss = 0, h = 0;
    const float *in = critic_input(s, s->obs, s->act);
    both_critics(s, s->params, in);
    critic_slopes(s, in);
    for (size_t r = 0; r < b; r++) {
        double q = (double)fminf(s->value[0][r], s->value[1][r]);
        loss += (alpha * (double)s->logp[r] - q) / (double)b;
        h -= (double)s->logp[r] / (double)b;
        for (size_t j = 0; j < n; j++) {
            double a = (double)s->act[r * n + j], raw = (double)s->out[r * 2 * n + n + j];
            double dq = (double)s->din[0][r * width + s->o.obs + j], t = tanh(raw);
            double du = (alpha * 2 * a - dq * (1 - a * a)) / (double)b;
            double spread = exp(log_std(raw)) * (double)s->noise[r * n + j];
            double dlog = du * spread - alpha / (double)b;
            s->dout[r * 2 * n + j] = (float)du;
            s->dout[r * 2 * n + n + j] =
                (float)(dlog * 0.5 * (LOG_STD_HIGH - LOG_STD_LOW) * (1 - t * t));
        }
    }
    *entropy = h;
    return loss;
}

double sp_sac_policy_loss(sp_sac *s, double *entropy)
{
    size_t b = s->o.batch;
    double alpha = exp(s->log_alpha);
    sp_nn_mlp_forward(&s->nn, &s->policy, s->params, b, s->obs, s->out, s->policy_cache);
    sp_sac_squash(s, b, s->out, s->noise, s->act, s->logp);
    double loss =
        s->o.discrete ? discrete_loss(s, alpha, entropy) : continuous_loss(s, alpha, entropy);
    sp_nn_mlp_backward(&s->nn, &s->policy, s->params, b, s->obs, s->dout, NULL, s->grads,
                       s->policy_cache, s->policy_work);
    return loss;
}
