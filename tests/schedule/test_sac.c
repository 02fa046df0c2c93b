/* SAC: gradients of its losses, learning on small problems, determinism, files. Pendulum:
 * bench_sac. */
#include "backends/cpu/kernel.h"
#include "pendulum.h"
#include "schedule/sac_parts.h"
#include "tests/support/memory.h"

static sp_sac *create(sp_sac_options o)
{
    sp_sac *sac = NULL;
    sparoa_error err;
    if (sp_sac_create(&alloc, sp_cpu_kernels(NULL), &o, &sac, &err)) fail_msg("%s", err.message);
    return sac;
}

/* ---- gradients ---- */

static void random_batch(sp_sac *s, sp_nn_rng *rng)
{
    size_t b = s->o.batch;
    for (size_t i = 0; i < b * s->o.obs; i++) {
        s->obs[i] = (float)sp_nn_normal(rng);
        s->next[i] = (float)sp_nn_normal(rng);
    }
    for (size_t i = 0; i < b * s->width; i++) {
        s->action[i] = s->o.discrete ? (float)sp_nn_below(rng, s->o.actions)
                                     : (float)(2 * sp_nn_uniform(rng) - 1);
        s->noise[i] = (float)sp_nn_normal(rng);
        s->next_noise[i] = (float)sp_nn_normal(rng);
    }
    for (size_t i = 0; i < b; i++) {
        s->reward[i] = (float)sp_nn_normal(rng);
        s->done[i] = i % 4 == 0;
    }
}

static double loss_of(sp_sac *s, bool critic)
{
    double entropy;
    return critic ? sp_sac_critic_loss(s) : sp_sac_policy_loss(s, &entropy);
}

/* Parameters first..last-1. ReLUs have kinks, hence a bound on the whole rather than on each. */
static void check_gradient(sp_sac *s, bool critic, size_t first, size_t last)
{
    const float h = 2e-3f;
    double error = 0, norm = 0;
    memset(s->grads, 0, s->count * sizeof(float));
    loss_of(s, critic);
    float *grads = malloc(s->count * sizeof *grads);
    memcpy(grads, s->grads, s->count * sizeof *grads);
    for (size_t i = first; i < last; i++) {
        float keep = s->params[i];
        s->params[i] = keep + h;
        double up = loss_of(s, critic);
        s->params[i] = keep - h;
        double slope = (up - loss_of(s, critic)) / (2 * (double)h);
        s->params[i] = keep;
        error += (slope - (double)grads[i]) * (slope - (double)grads[i]);
        norm += slope * slope;
    }
    if (!(norm > 0 && sqrt(error) <= 2e-2 * sqrt(norm)))
        fail_msg("%s %s: relative error %g", s->o.discrete ? "discrete" : "continuous",
                 critic ? "critic" : "policy", sqrt(error / norm));
    free(grads);
}

static void test_gradients(void **state)
{
    for (int discrete = 0; discrete < 2; discrete++) {
        sp_sac *s = create((sp_sac_options){.obs = 4,
                                            .actions = 3,
                                            .discrete = discrete,
                                            .hidden = 12,
                                            .batch = 16,
                                            .replay = 16,
                                            .initial_alpha = 0.4,
                                            .seed = 5});
        sp_nn_rng rng = {.key = 11};
        random_batch(s, &rng);
        check_gradient(s, true, s->policy_count, s->count);
        check_gradient(s, false, 0, s->policy_count);
        sp_sac_destroy(s);
    }
}

/* ---- learning ---- */

/* One step, two contexts: choice 2 pays in the first, 0 in the second. */
static double train_bandit(sp_sac *s, int steps)
{
    sp_nn_rng rng = {.key = 3};
    float action;
    for (int i = 0; i < steps; i++) {
        float obs[2] = {(float)sp_nn_below(&rng, 2), 1};
        sp_sac_act(s, obs, true, &action);
        double reward = action == (obs[0] > 0 ? 0.0f : 2.0f) ? 1 : 0;
        sp_sac_observe(s, obs, &action, reward, obs, true);
        if (i >= 64) assert_int_equal(sp_sac_update(s, NULL, NULL), SPAROA_OK);
    }
    float p[6];
    sp_sac_policy(s, 2, (float[]){0, 1, 1, 1}, p);
    return fmin((double)p[2], (double)p[3]);
}

static sp_sac_options bandit_options(uint64_t seed)
{
    return (sp_sac_options){.obs = 2,
                            .actions = 3,
                            .discrete = true,
                            .hidden = 16,
                            .batch = 32,
                            .replay = 1000,
                            .rate = 3e-3,
                            .target_entropy = 0.05,
                            .seed = seed};
}

static void test_learns_choices(void **state)
{
    for (uint64_t seed = 0; seed < 3; seed++) {
        sp_sac *s = create(bandit_options(seed));
        double p = train_bandit(s, 1500);
        if (!(p > 0.8)) fail_msg("seed %d: the right choices have probability %g", (int)seed, p);
        float action;
        sp_sac_act(s, (float[]){0, 1}, false, &action);
        assert_true(action == 2);
        sp_sac_destroy(s);
    }
}

/* Steer a point on a line to 0: move by the action, pay for the distance; 10 steps. */
static double walk(sp_sac *s, sp_nn_rng *rng, bool learn)
{
    double x = 2 * sp_nn_uniform(rng) - 1, total = 0;
    for (int i = 0; i < 10; i++) {
        float obs = (float)x, action, next;
        sp_sac_act(s, &obs, learn, &action);
        x = fmin(fmax(x + 0.5 * (double)action, -2), 2);
        total -= fabs(x);
        next = (float)x;
        if (!learn) continue;
        sp_sac_observe(s, &obs, &action, -fabs(x), &next, i == 9);
        assert_int_equal(sp_sac_update(s, NULL, NULL), SPAROA_OK);
    }
    return total;
}

static void test_learns_numbers(void **state)
{
    sp_sac *s = create((sp_sac_options){
        .obs = 1, .actions = 1, .hidden = 32, .batch = 64, .rate = 2e-3, .gamma = 0.9, .seed = 1});
    sp_nn_rng rng = {.key = 9};
    double before = 0, after = 0;
    for (int i = 0; i < 20; i++) before += walk(s, &rng, false) / 20;
    for (int i = 0; i < 250; i++) walk(s, &rng, true);
    for (int i = 0; i < 20; i++) after += walk(s, &rng, false) / 20;
    /* The best is about -0.3: half a step is at most what a mean start of 0.5 needs. */
    if (!(after > -0.8 && after > before)) fail_msg("return %g, before training %g", after, before);
    sp_sac_destroy(s);
}

static void test_deterministic(void **state)
{
    sp_sac *a = create(bandit_options(7)), *b = create(bandit_options(7)),
           *c = create(bandit_options(8));
    train_bandit(a, 200), train_bandit(b, 200), train_bandit(c, 200);
    assert_memory_equal(a->params, b->params, a->count * sizeof(float));
    assert_memory_not_equal(a->params, c->params, a->count * sizeof(float));
    sp_sac_destroy(a), sp_sac_destroy(b), sp_sac_destroy(c);
}

/* Independent of the learner: what the dynamics do from a known state. */
static void test_pendulum_dynamics(void **state)
{
    pendulum p = {.theta = 0, .speed = 0};
    assert_true(pendulum_step(&p, 0) == 0 &&
                p.theta == 0); /* upright, at rest: stays, costs nothing */
    p = (pendulum){.theta = 1.5707963267948966, .speed = 1};
    double reward = pendulum_step(&p, 5); /* torque cut to 2 */
    assert_true(fabs(reward + (2.4674011002723395 + 0.1 + 0.004)) < 1e-12);
    assert_true(fabs(p.speed - 2.05) < 1e-12 && fabs(p.theta - 1.6732963267948966) < 1e-12);
    p = (pendulum){.theta = 6.283185307179586, .speed = 0}; /* once round is upright too */
    assert_true(fabs(pendulum_step(&p, 0)) < 1e-12);
}

/* ---- files ---- */

/* The four bytes there set to `value`, with a checksum that fits: the message that refuses it. */
static void refused_at(sp_sac *s, const unsigned char *good, size_t bytes, size_t at, float value,
                       const char *message)
{
    sparoa_error err = {0};
    unsigned char *file = malloc(bytes);
    uint32_t sum = 2166136261u;
    memcpy(file, good, bytes);
    memcpy(file + at, &value, 4);
    for (size_t i = 16; i < bytes; i++) sum = (sum ^ file[i]) * 16777619u;
    memcpy(file + 12, &sum, 4);
    assert_int_equal(sp_sac_load(s, 5, file, bytes, &err), SPAROA_MALFORMED);
    if (!strstr(err.message, message)) fail_msg("%s", err.message);
    free(file);
}

static void test_file(void **state)
{
    sp_sac *a = create(bandit_options(1)), *b = create(bandit_options(2));
    train_bandit(a, 150);
    size_t bytes = sp_sac_file_bytes(a);
    unsigned char *file = malloc(bytes), *again = malloc(bytes);
    sp_sac_save(a, 5, file);
    assert_int_equal(sp_sac_load(b, 5, file, bytes, NULL), SPAROA_OK);
    sp_sac_save(b, 5, again);
    assert_memory_equal(file, again, bytes);
    float p[3], q[3], obs[2] = {1, 1};
    sp_sac_policy(a, 1, obs, p), sp_sac_policy(b, 1, obs, q);
    assert_memory_equal(p, q, sizeof p);

    /* Damage of any byte is found, and leaves the learner as it was. */
    for (size_t i = 0; i < bytes; i += i < 64 ? 1 : 97) {
        file[i] ^= 0x41;
        assert_int_not_equal(sp_sac_load(b, 5, file, bytes, NULL), SPAROA_OK);
        file[i] ^= 0x41;
    }
    for (size_t n = 0; n < bytes; n += n < 64 ? 1 : 89)
        assert_int_equal(sp_sac_load(b, 5, file, n, NULL), SPAROA_MALFORMED);
    refused_at(b, file, bytes, 36, NAN, "log_alpha (byte 36) is nan");
    refused_at(b, file, bytes, 36, 17, "log_alpha (byte 36) is 17");
    refused_at(b, file, bytes, 48, INFINITY, "weight 2 (byte 48) is not finite");
    file[8] = 9;
    assert_int_equal(sp_sac_load(b, 5, file, bytes, NULL), SPAROA_UNSUPPORTED_VERSION);
    sp_sac_save(b, 5, file);
    assert_memory_equal(file, again, bytes);
    free(file), free(again);
    sp_sac_destroy(a), sp_sac_destroy(b);
}

static void test_refuses(void **state)
{
    sp_sac *sac = NULL;
    sparoa_error err;
    const sp_kernels *k = sp_cpu_kernels(NULL);
    sp_sac_options bad[] = {{.obs = 0, .actions = 1},
                            {.obs = 1, .actions = 1 << 20},
                            {.obs = 1, .actions = 1, .hidden = 5000},
                            {.obs = 1, .actions = 1, .gamma = 2},
                            {.obs = 1, .actions = 1, .rate = NAN},
                            {.obs = 1, .actions = 1, .target_entropy = INFINITY}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(sp_sac_create(&alloc, k, &bad[i], &sac, &err), SPAROA_INVALID_ARGUMENT);
    sp_mem small;
    for (size_t limit = 0; limit < 300000; limit += 9001) { /* out of memory at any point */
        sparoa_allocator poor = sp_mem_init(&small, NULL, limit + 1);
        sp_sac_options o = bandit_options(1);
        if (sp_sac_create(&poor, k, &o, &sac, &err) == SPAROA_OK)
            sp_sac_destroy(sac);
        else
            assert_int_equal(err.status, SPAROA_MEMORY_LIMIT);
        assert_int_equal(atomic_load(&small.used), 0);
    }
    sac = create(bandit_options(1));
    assert_int_equal(sp_sac_update(sac, NULL, &err), SPAROA_INVALID_STATE);
    sp_sac_destroy(sac);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),         cmocka_unit_test(test_learns_choices),
        cmocka_unit_test(test_learns_numbers),    cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_pendulum_dynamics), cmocka_unit_test(test_file),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, memory_set_up, memory_tear_down);
}
