/*
 * pendulum.h - the dynamics of Gym's Pendulum-v1 as published: theta'' = 3 g / (2 l) sin(theta) +
 * 3 / (m l^2) u, g = 10, m = l = 1, dt = 0.05, |u| <= 2, |theta'| <= 8, theta = 0 upright; reward
 * -(theta^2 + 0.1 theta'^2 + 0.001 u^2) with theta in [-pi, pi); starts uniform in theta in
 * [-pi, pi], theta' in [-1, 1]; episodes of 200 steps.
 */
#ifndef SP_TESTS_PENDULUM_H
#define SP_TESTS_PENDULUM_H

#include "nn/nn.h"
#include "schedule/sac.h"

enum { PENDULUM_OBS = 3, PENDULUM_STEPS = 200 };

typedef struct pendulum {
    double theta, speed;
} pendulum;

void pendulum_reset(pendulum *p, sp_nn_rng *rng);
void pendulum_observe(const pendulum *p, float obs[PENDULUM_OBS]); /* cos, sin, speed */
double pendulum_step(pendulum *p, double torque);                  /* the reward */

/* Mean and deviation of the return of `episodes` episodes without exploration. */
double pendulum_evaluate(sp_sac *sac, int episodes, uint64_t seed, double *deviation);

/* Goes on training for `steps` steps, one update each; the first 1000 actions are uniform. */
typedef struct pendulum_training {
    sp_sac *sac;
    sp_nn_rng rng;
    pendulum p;
    int steps;
} pendulum_training;
sparoa_status pendulum_train(pendulum_training *t, int steps, sparoa_error *err);

#endif
