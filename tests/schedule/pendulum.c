#include "pendulum.h"

#include <math.h>

#define PI 3.14159265358979323846

void pendulum_reset(pendulum *p, sp_nn_rng *rng)
{
    p->theta = PI * (2 * sp_nn_uniform(rng) - 1);
    p->speed = 2 * sp_nn_uniform(rng) - 1;
}

void pendulum_observe(const pendulum *p, float obs[PENDULUM_OBS])
{
    obs[0] = (float)cos(p->theta);
    obs[1] = (float)sin(p->theta);
    obs[2] = (float)p->speed;
}

double pendulum_step(pendulum *p, double torque)
{
    double u = fmin(fmax(torque, -2), 2);
    double angle = p->theta - 2 * PI * floor((p->theta + PI) / (2 * PI));
    double cost = angle * angle + 0.1 * p->speed * p->speed + 0.001 * u * u;
    double speed = p->speed + (15 * sin(p->theta) + 3 * u) * 0.05;
    p->speed = fmin(fmax(speed, -8), 8);
    p->theta += p->speed * 0.05;
    return -cost;
}

double pendulum_evaluate(sp_sac *sac, int episodes, uint64_t seed, double *deviation)
{
    sp_nn_rng rng = {.key = seed};
    double sum = 0, squares = 0;
    for (int e = 0; e < episodes; e++) {
        pendulum p;
        double total = 0;
        pendulum_reset(&p, &rng);
        for (int i = 0; i < PENDULUM_STEPS; i++) {
            float obs[PENDULUM_OBS], action;
            pendulum_observe(&p, obs);
            sp_sac_act(sac, obs, false, &action);
            total += pendulum_step(&p, 2 * (double)action);
        }
        sum += total;
        squares += total * total;
    }
    double mean = sum / episodes;
    if (deviation) *deviation = sqrt(fmax(0, squares / episodes - mean * mean));
    return mean;
}

sparoa_status pendulum_train(pendulum_training *t, int steps, sparoa_error *err)
{
    sparoa_status status = SPAROA_OK;
    for (int i = 0; i < steps && !status; i++, t->steps++) {
        float obs[PENDULUM_OBS], next[PENDULUM_OBS], action;
        if (t->steps % PENDULUM_STEPS == 0) pendulum_reset(&t->p, &t->rng);
        pendulum_observe(&t->p, obs);
        if (t->steps < 1000)
            action = (float)(2 * sp_nn_uniform(&t->rng) - 1);
        else
            sp_sac_act(t->sac, obs, true, &action);
        double reward = pendulum_step(&t->p, 2 * (double)action);
        pendulum_observe(&t->p, next);
        sp_sac_observe(t->sac, obs, &action, reward, next, false);
        if (t->steps >= 256) status = sp_sac_update(t->sac, NULL, err);
    }
    return status;
}
