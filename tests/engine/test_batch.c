/* The batcher against an independent model of its policy, by discrete events under a virtual clock:
 * random policies, arrivals, timeouts, deadlines and service times. The model below keeps all
 * requests in one array, decides by looking at all of them anew each time, and shares nothing with
 * the batcher but the policy. */
#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "engine/batch.h"
#include "tests/support/support.h"

#define REQUESTS 300
#define WORKERS 3

/* ---- the world: what both sides are given ---- */

typedef struct arrival {
    int64_t at, queue_timeout, deadline;
    int32_t items, level, shape;
} arrival;

typedef struct world {
    sparoa_batch_policy policy;
    int32_t preferred[4];
    sparoa_queue_policy queues[4];
    arrival arrivals[REQUESTS];
    int64_t base_ns, item_ns; /* time of a batch */
    int32_t workers;
    int32_t limit;
    int64_t flush_at;
} world;

typedef struct event { /* what happened, in order: a batch, or one request that ended */
    int64_t at;
    int32_t first, count, items; /* of a batch: its first request, how many */
    int32_t release;             /* -1: expired, -2: refused */
    uint64_t members;            /* a sum over (position, request) */
} event;

typedef struct history {
    event events[2 * REQUESTS];
    int32_t count;
} history;

static uint64_t member_code(int32_t position, int32_t request)
{
    return (uint64_t)(position + 1) * 0x9e3779b97f4a7c15u ^
           (uint64_t)(request + 1) * 0xbf58476d1ce4e5b9u;
}

static int64_t run_time(const world *w, int32_t items)
{
    return w->base_ns + w->item_ns * items;
}

static int64_t pick(uint64_t *key, int64_t n) /* 0..n-1 */
{
    double u = sp_rng_uniform(*key, 1);
    *key = *key * 6364136223846793005u + 1442695040888963407u;
    int64_t v = (int64_t)(u * (double)n);
    return v < n ? v : n - 1;
}

static sparoa_queue_policy random_queue(uint64_t *key)
{
    return (sparoa_queue_policy){.timeout_action =
                                     pick(key, 2) ? SPAROA_TIMEOUT_DELAY : SPAROA_TIMEOUT_REJECT,
                                 .default_timeout_ns = pick(key, 2) ? 1 + pick(key, 3000) : 0,
                                 .allow_timeout_override = (int32_t)pick(key, 2),
                                 .max_queue_size = pick(key, 3) ? 0 : 1 + (int32_t)pick(key, 20)};
}

static world make_world(uint64_t key)
{
    world w = {.workers = 1 + (int32_t)pick(&key, WORKERS)};
    sparoa_batch_policy *p = &w.policy;
    p->max_batch = 1 + (int32_t)pick(&key, 12);
    p->preferred_count = pick(&key, 2) ? (size_t)pick(&key, 4) : 0;
    for (int i = 0; i < 4; i++) w.preferred[i] = 1 + (int32_t)pick(&key, p->max_batch);
    p->max_queue_delay_ns = pick(&key, 4) ? pick(&key, 1500) : 0;
    p->priority_levels = (int32_t)pick(&key, 4);
    int32_t levels = p->priority_levels ? p->priority_levels : 1;
    p->queue = random_queue(&key);
    for (int i = 0; i < 4; i++) w.queues[i] = pick(&key, 2) ? random_queue(&key) : p->queue;
    p->latency_objective_ns = pick(&key, 3) ? 0 : 500 + pick(&key, 2000);
    w.base_ns = 50 + pick(&key, 400);
    w.item_ns = pick(&key, 100);
    w.limit = pick(&key, 3) ? p->max_batch : 1 + (int32_t)pick(&key, p->max_batch);
    w.flush_at = pick(&key, 2) ? pick(&key, 30000) : -1;
    int64_t gap = 1 + pick(&key, 300), now = 0;
    int32_t shapes = pick(&key, 3) ? 1 : 3, most = pick(&key, 2) ? 1 : 3;
    for (int i = 0; i < REQUESTS; i++) {
        now += (int64_t)(-log(1 - sp_rng_uniform(key, (uint64_t)i + 7)) * (double)gap);
        arrival *a = &w.arrivals[i];
        *a = (arrival){.at = now,
                       .queue_timeout = pick(&key, 3) ? 0 : 1 + pick(&key, 2000),
                       .deadline = pick(&key, 4) ? SP_NEVER : now + pick(&key, 3000),
                       .items = 1 + (int32_t)pick(&key, most),
                       .level = (int32_t)pick(&key, levels),
                       .shape = (int32_t)pick(&key, shapes)};
        if (a->items > p->max_batch) a->items = p->max_batch;
    }
    return w;
}

/* ---- the reference ---- */

typedef struct entry {
    bool queued, delayed;
    int64_t timeout;  /* SP_NEVER: none */
    int64_t sequence; /* of arrival, or of being delayed */
} entry;

typedef struct reference {
    const world *w;
    entry entries[REQUESTS];
    int64_t sequence;
    bool flush;
} reference;

static const sparoa_queue_policy *queue_of(const world *w, int32_t level)
{
    return &w->queues[level];
}

static bool ref_arrive(reference *r, int32_t i)
{
    const arrival *a = &r->w->arrivals[i];
    const sparoa_queue_policy *q = queue_of(r->w, a->level);
    int32_t same_level = 0;
    for (int k = 0; k < REQUESTS; k++)
        same_level += r->entries[k].queued && r->w->arrivals[k].level == a->level;
    if (q->max_queue_size && same_level >= q->max_queue_size) return false;
    int64_t timeout = q->default_timeout_ns ? q->default_timeout_ns : SP_NEVER;
    if (q->allow_timeout_override && a->queue_timeout && a->queue_timeout < timeout)
        timeout = a->queue_timeout;
    r->entries[i] = (entry){.queued = true,
                            .timeout = timeout == SP_NEVER ? SP_NEVER : a->at + timeout,
                            .sequence = r->sequence++};
    return true;
}

static bool ref_any(const reference *r)
{
    for (int i = 0; i < REQUESTS; i++)
        if (r->entries[i].queued) return true;
    return false;
}

/* Whether request x goes before y into a batch. */
static bool ref_before(const reference *r, int x, int y)
{
    const arrival *a = r->w->arrivals;
    if (a[x].level != a[y].level) return a[x].level < a[y].level;
    if (r->entries[x].delayed != r->entries[y].delayed) return r->entries[y].delayed;
    return r->entries[x].sequence < r->entries[y].sequence;
}

static int ref_sorted(const reference *r, int *order)
{
    int n = 0;
    for (int i = 0; i < REQUESTS; i++) {
        if (!r->entries[i].queued) continue;
        int at = n++;
        for (; at > 0 && ref_before(r, i, order[at - 1]); at--) order[at] = order[at - 1];
        order[at] = i;
    }
    return n;
}

/* Timeouts and deadlines that have passed. */
static void ref_expire(reference *r, int64_t now, history *h)
{
    int order[REQUESTS], n = ref_sorted(r, order);
    for (int k = 0; k < n; k++) {
        entry *e = &r->entries[order[k]];
        const arrival *a = &r->w->arrivals[order[k]];
        bool late = e->timeout <= now,
             reject = queue_of(r->w, a->level)->timeout_action == SPAROA_TIMEOUT_REJECT;
        if (a->deadline <= now || (late && reject)) {
            e->queued = false;
            h->events[h->count++] = (event){.at = now, .first = order[k], .release = -1};
        } else if (late) {
            e->delayed = true;
            e->timeout = SP_NEVER;
            e->sequence = r->sequence++;
        }
    }
}

static bool ref_preferred(const world *w, int32_t items)
{
    bool found = false;
    for (size_t i = 0; i < w->policy.preferred_count; i++) found |= w->preferred[i] == items;
    return found;
}

/* Requests that would be taken from `order` now, 0: none; and why. */
static int ref_decide(const reference *r, int64_t now, const int *order, int n, int *release)
{
    const world *w = r->w;
    const sparoa_batch_policy *p = &w->policy;
    int taken = 0, items = 0, preferred = 0, most = 0;
    bool other_shape = false, full = false;
    int64_t oldest = SP_NEVER, deadline = SP_NEVER;
    while (taken < n && !full) {
        const arrival *a = &w->arrivals[order[taken]];
        if (taken && items + a->items > w->limit) {
            full = true;
        } else if (taken && a->shape != w->arrivals[order[0]].shape) {
            other_shape = full = true;
        } else {
            items += a->items;
            oldest = a->at < oldest ? a->at : oldest;
            deadline = a->deadline < deadline ? a->deadline : deadline;
            taken++;
            if (ref_preferred(w, items)) preferred = taken;
            full = items >= w->limit;
        }
    }
    for (size_t i = 0; i < p->preferred_count; i++)
        most = w->preferred[i] > most ? w->preferred[i] : most;
    bool waited = p->max_queue_delay_ns && now - oldest >= p->max_queue_delay_ns;
    int64_t run = run_time(w, items);
    if (n == 0) return 0;
    if (preferred && !waited) return *release = SPAROA_RELEASE_PREFERRED, preferred;
    if (other_shape) return *release = SPAROA_RELEASE_SHAPE, taken;
    if (full)
        return *release = w->limit < p->max_batch ? SPAROA_RELEASE_MEMORY : SPAROA_RELEASE_FULL,
               taken;
    if (most && items >= most) return *release = SPAROA_RELEASE_PREFERRED, taken;
    if (!p->max_queue_delay_ns) return *release = SPAROA_RELEASE_NO_DELAY, taken;
    if (waited) return *release = SPAROA_RELEASE_DELAY, taken;
    if (r->flush) return *release = SPAROA_RELEASE_FLUSH, taken;
    if (deadline != SP_NEVER && deadline - now <= run)
        return *release = SPAROA_RELEASE_DEADLINE, taken;
    if (p->latency_objective_ns && now - oldest >= p->latency_objective_ns - run)
        return *release = SPAROA_RELEASE_LATENCY, taken;
    return 0;
}

static int32_t ref_form(reference *r, int64_t now, history *h)
{
    int order[REQUESTS], n = ref_sorted(r, order), release = 0;
    int taken = ref_decide(r, now, order, n, &release);
    event e = {.at = now, .first = taken ? order[0] : 0, .count = taken, .release = release};
    for (int k = 0; k < taken; k++) {
        r->entries[order[k]].queued = false;
        e.items += r->w->arrivals[order[k]].items;
        e.members += member_code(k, order[k]);
    }
    if (taken) h->events[h->count++] = e;
    if (taken == n) r->flush = false;
    return e.items;
}

/* ---- the batcher ---- */

typedef struct tested_item {
    sp_batch_item item;
    int32_t number, shape;
} tested_item;

typedef struct tested {
    const world *w;
    sp_batcher batcher;
    tested_item items[REQUESTS];
} tested;

static bool same(const sp_batch_item *a, const sp_batch_item *b)
{
    return ((const tested_item *)a)->shape == ((const tested_item *)b)->shape;
}

static int64_t expected(void *user, int32_t items)
{
    return run_time(((tested *)user)->w, items);
}

static void tested_expire(tested *t, int64_t now, history *h)
{
    sp_batch_item *item;
    while ((item = sp_batcher_expire(&t->batcher, now)))
        h->events[h->count++] =
            (event){.at = now, .first = ((tested_item *)item)->number, .release = -1};
}

static int32_t tested_form(tested *t, int64_t now, int64_t *wake, history *h)
{
    sp_batch_list batch;
    sparoa_release release = SPAROA_RELEASE_ALONE;
    int32_t items = sp_batcher_form(&t->batcher, now, &batch, &release, wake), k = 0;
    if (!items) return 0;
    event e = {.at = now, .items = items, .release = release};
    e.first = ((tested_item *)batch.head)->number;
    for (sp_batch_item *item = batch.head; item; item = item->next)
        e.members += member_code(k++, ((tested_item *)item)->number);
    e.count = k;
    h->events[h->count++] = e;
    return items;
}

/* ---- simulation ---- */

typedef struct sides {
    reference *ref; /* one of the two */
    tested *tested;
    history history;
} sides;

static void arrive(sides *s, const world *w, int32_t i)
{
    bool taken;
    if (s->ref) {
        taken = ref_arrive(s->ref, i);
    } else {
        const arrival *a = &w->arrivals[i];
        tested_item *item = &s->tested->items[i];
        item->number = i;
        item->shape = a->shape;
        item->item = (sp_batch_item){
            .arrived_ns = a->at, .deadline_ns = a->deadline, .items = a->items, .level = a->level};
        taken = sp_batcher_push(&s->tested->batcher, &item->item, a->queue_timeout);
    }
    if (!taken)
        s->history.events[s->history.count++] =
            (event){.at = w->arrivals[i].at, .first = i, .release = -2};
}

/* Batches are formed while a worker is free. The reference is asked at every tick of the clock, the
 * batcher only when something happened or at the time it gave: so that time is checked too. */
static void simulate(sides *s, const world *w)
{
    int64_t busy_until[WORKERS] = {0}, last = w->arrivals[REQUESTS - 1].at + 20000;
    int64_t wake = SP_NEVER, earliest = SP_NEVER;
    int32_t next = 0;
    for (int64_t now = 0; now <= last; now++) {
        bool happened = false;
        for (; next < REQUESTS && w->arrivals[next].at == now; next++) {
            arrive(s, w, next);
            happened = true;
        }
        if (now == w->flush_at) {
            happened = true;
            if (s->ref) s->ref->flush = ref_any(s->ref);
            if (s->tested) s->tested->batcher.flush = s->tested->batcher.queued > 0;
        }
        for (int k = 0; k < w->workers; k++) happened |= busy_until[k] == now;
        if (s->tested) earliest = s->tested->batcher.earliest_ns;
        if (!s->ref && !happened && now < wake && now < earliest) continue;
        wake = SP_NEVER;
        if (s->ref)
            ref_expire(s->ref, now, &s->history);
        else
            tested_expire(s->tested, now, &s->history);
        for (int k = 0; k < w->workers; k++) {
            if (busy_until[k] > now) continue;
            int32_t items = s->ref ? ref_form(s->ref, now, &s->history)
                                   : tested_form(s->tested, now, &wake, &s->history);
            if (!items) break;
            int64_t run = run_time(w, items);
            busy_until[k] = now + (run ? run : 1);
        }
    }
}

static void print_history(const char *name, const history *h, int from)
{
    for (int i = from; i < h->count && i < from + 4; i++)
        print_message("%s: at %lld first %d count %d items %d release %d\n", name,
                      (long long)h->events[i].at, h->events[i].first, h->events[i].count,
                      h->events[i].items, h->events[i].release);
}

static void compare(uint64_t seed, int64_t *seen)
{
    static sides a, b;
    static reference ref;
    static tested t;
    static world w;
    sparoa_allocator alloc;
    sp_mem mem;
    alloc = sp_mem_init(&mem, NULL, 0);
    w = make_world(seed);
    w.policy.preferred_sizes = w.preferred;
    w.policy.level_queues = w.queues;
    ref = (reference){.w = &w};
    memset(&t, 0, sizeof t);
    t.w = &w;
    assert_int_equal(sp_batcher_init(&t.batcher, &w.policy, &alloc, NULL), SPAROA_OK);
    t.batcher.same = same;
    t.batcher.run_ns = expected;
    t.batcher.user = &t;
    if (w.limit < w.policy.max_batch) {
        t.batcher.limit = w.limit;
        t.batcher.limit_reason = SPAROA_RELEASE_MEMORY;
    }
    a = (sides){.ref = &ref};
    b = (sides){.tested = &t};
    simulate(&a, &w);
    simulate(&b, &w);
    int n = a.history.count < b.history.count ? a.history.count : b.history.count;
    for (int i = 0; i < n; i++) {
        if (!memcmp(&a.history.events[i], &b.history.events[i], sizeof(event))) continue;
        print_history("reference", &a.history, i);
        print_history("batcher", &b.history, i);
        fail_msg("seed %llu: event %d differs", (unsigned long long)seed, i);
    }
    assert_int_equal(a.history.count, b.history.count);
    int32_t left = t.batcher.queued;
    for (int i = 0; i < b.history.count; i++) {
        const event *e = &b.history.events[i];
        seen[e->release + 2]++;
        left += e->count ? e->count : 1;
    }
    assert_int_equal(left, REQUESTS); /* each request once */
    sp_batcher_destroy(&t.batcher);
    assert_int_equal(atomic_load(&mem.used), 0);
}

static void test_reference(void **state)
{
    (void)state;
    int64_t seen[SPAROA_RELEASE_COUNT + 2] = {0};
    for (uint64_t seed = 1; seed <= 150; seed++) compare(seed, seen);
    for (int i = 0; i < SPAROA_RELEASE_COUNT + 2; i++)
        if (i != SPAROA_RELEASE_ALONE + 2 && i != SPAROA_RELEASE_TUNED + 2)
            assert_true(seen[i] > 10); /* each way was taken */
}

/* ---- small properties ---- */

static void test_alone(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, 0);
    sp_batcher b;
    sp_batch_item items[3];
    sp_batch_list batch;
    sparoa_release release;
    int64_t wake;
    assert_int_equal(sp_batcher_init(&b, NULL, &alloc, NULL), SPAROA_OK);
    for (int i = 0; i < 3; i++) {
        items[i] = (sp_batch_item){.deadline_ns = SP_NEVER, .items = 1};
        assert_true(sp_batcher_push(&b, &items[i], 0));
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sp_batcher_form(&b, 0, &batch, &release, &wake), 1);
        assert_ptr_equal(batch.head, &items[i]);
        assert_int_equal(release, SPAROA_RELEASE_ALONE);
    }
    assert_int_equal(sp_batcher_form(&b, 0, &batch, &release, &wake), 0);
    assert_true(wake == SP_NEVER);
    sp_batcher_destroy(&b);
}

/* What was returned is taken again first, in its order. */
static void test_return(void **state)
{
    (void)state;
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, 0);
    sparoa_batch_policy policy = {.struct_size = sizeof policy, .max_batch = 4};
    sp_batcher b;
    sp_batch_item items[6];
    sp_batch_list batch;
    sparoa_release release;
    int64_t wake;
    assert_int_equal(sp_batcher_init(&b, &policy, &alloc, NULL), SPAROA_OK);
    for (int i = 0; i < 6; i++) {
        items[i] = (sp_batch_item){.deadline_ns = SP_NEVER, .items = 1};
        sp_batcher_push(&b, &items[i], 0);
    }
    assert_int_equal(sp_batcher_form(&b, 0, &batch, &release, &wake), 4);
    for (int i = 3; i >= 0; i--) sp_batcher_return(&b, &items[i]);
    b.limit = 2;
    b.limit_reason = SPAROA_RELEASE_MEMORY;
    for (int i = 0; i < 6; i += 2) {
        assert_int_equal(sp_batcher_form(&b, 0, &batch, &release, &wake), 2);
        assert_ptr_equal(batch.head, &items[i]);
        assert_ptr_equal(batch.tail, &items[i + 1]);
        assert_int_equal(release, SPAROA_RELEASE_MEMORY);
    }
    sp_batcher_destroy(&b);
}

static void refuses(sparoa_batch_policy policy, const char *word)
{
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, 0);
    sp_batcher b;
    sparoa_error err;
    assert_int_equal(sp_batcher_init(&b, &policy, &alloc, &err), SPAROA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.message, word));
    assert_int_equal(atomic_load(&mem.used), 0);
}

static void test_bad_policy(void **state)
{
    (void)state;
    int32_t nine = 9;
    refuses((sparoa_batch_policy){.max_batch = 0}, "max_batch");
    refuses((sparoa_batch_policy){.max_batch = 5000}, "max_batch");
    refuses((sparoa_batch_policy){.max_batch = 8, .preferred_sizes = &nine, .preferred_count = 1},
            "preferred");
    refuses((sparoa_batch_policy){.max_batch = 8, .preferred_count = 1}, "preferred_count");
    refuses((sparoa_batch_policy){.max_batch = 8, .max_queue_delay_ns = -1}, "max_queue_delay");
    refuses((sparoa_batch_policy){.max_batch = 8, .priority_levels = 2, .default_priority = 3},
            "default_priority");
    refuses((sparoa_batch_policy){.max_batch = 8, .queue = {.max_queue_size = -1}},
            "max_queue_size");
    refuses((sparoa_batch_policy){.max_batch = 8, .queue = {.timeout_action = 7}},
            "timeout_action");
}

static void test_times(void **state)
{
    (void)state;
    sp_batch_time sizes[17] = {{0}};
    sp_batch_times t = {sizes, 16};
    assert_int_equal(sp_batch_times_expect(&t, 4), 0);
    sp_batch_times_add(&t, 2, 100);
    assert_int_equal(sp_batch_times_expect(&t, 2), 100);
    assert_int_equal(sp_batch_times_expect(&t, 4), 200);
    assert_int_equal(sp_batch_times_expect(&t, 1), 100);
    sp_batch_times_add(&t, 8, 160);
    assert_int_equal(sp_batch_times_expect(&t, 4), 160);
    assert_int_equal(sp_batch_times_expect(&t, 3), 150);
    assert_int_equal(sp_batch_times_expect(&t, 100), 320);
    for (int i = 0; i < 100; i++) sp_batch_times_add(&t, 2, 500); /* the machine got slower */
    assert_true(llabs(sp_batch_times_expect(&t, 2) - 500) <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_alone),
        cmocka_unit_test(test_return),    cmocka_unit_test(test_bad_policy),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
