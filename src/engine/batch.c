#include "engine/batch.h"

#include <string.h>

#include "base/clock.h"
#include "ops/op.h"

#define MAX_BATCH 4096
#define MAX_LEVELS 1024

/* ---- lists ---- */

void sp_batch_append(sp_batch_list *list, sp_batch_item *item)
{
    item->list = list;
    item->prev = list->tail;
    item->next = NULL;
    *(list->tail ? &list->tail->next : &list->head) = item;
    list->tail = item;
    list->count++;
}

static void prepend(sp_batch_list *list, sp_batch_item *item)
{
    item->list = list;
    item->prev = NULL;
    item->next = list->head;
    *(list->head ? &list->head->prev : &list->tail) = item;
    list->head = item;
    list->count++;
}

static void unlink_item(sp_batch_item *item)
{
    sp_batch_list *list = item->list;
    *(item->prev ? &item->prev->next : &list->head) = item->next;
    *(item->next ? &item->next->prev : &list->tail) = item->prev;
    item->list = NULL;
    item->prev = item->next = NULL;
    list->count--;
}

/* ---- policy ---- */

static sparoa_status bad(sparoa_error *err, const char *field, int64_t value, const char *expected)
{
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "batch policy: %s=%lld; expected %s",
                       field, (long long)value, expected);
}

static sparoa_status check_queue(const sparoa_queue_policy *q, sparoa_error *err)
{
    if (q->timeout_action != SPAROA_TIMEOUT_REJECT && q->timeout_action != SPAROA_TIMEOUT_DELAY)
        return bad(err, "timeout_action", q->timeout_action, "REJECT or DELAY");
    if (q->default_timeout_ns < 0)
        return bad(err, "default_timeout_ns", q->default_timeout_ns, "0 or more");
    if (q->max_queue_size < 0) return bad(err, "max_queue_size", q->max_queue_size, "0 or more");
    return SPAROA_OK;
}

static sparoa_status check_policy(const sparoa_batch_policy *p, int32_t levels, sparoa_error *err)
{
    if (p->max_batch < 1 || p->max_batch > MAX_BATCH)
        return bad(err, "max_batch", p->max_batch, "1 to 4096");
    if (p->priority_levels < 0 || p->priority_levels > MAX_LEVELS)
        return bad(err, "priority_levels", p->priority_levels, "0 to 1024");
    if (p->default_priority < 0 || p->default_priority > levels)
        return bad(err, "default_priority", p->default_priority, "0 to priority_levels");
    if (p->max_queue_delay_ns < 0)
        return bad(err, "max_queue_delay_ns", p->max_queue_delay_ns, "0 or more");
    if (p->latency_objective_ns < 0)
        return bad(err, "latency_objective_ns", p->latency_objective_ns, "0 or more");
    if (p->preferred_count && !p->preferred_sizes)
        return bad(err, "preferred_count", (int64_t)p->preferred_count, "0 without a list");
    for (size_t i = 0; i < p->preferred_count; i++)
        if (p->preferred_sizes[i] < 1 || p->preferred_sizes[i] > p->max_batch)
            return bad(err, "preferred size", p->preferred_sizes[i], "1 to max_batch");
    SP_TRY(check_queue(&p->queue, err));
    for (int32_t i = 0; p->level_queues && i < levels; i++)
        SP_TRY(check_queue(&p->level_queues[i], err));
    return SPAROA_OK;
}

static sparoa_status copy_policy(sp_batcher *b, sparoa_error *err)
{
    sparoa_batch_policy *p = &b->policy;
    size_t bytes = p->preferred_count * sizeof *p->preferred_sizes;
    const int32_t *preferred = p->preferred_sizes;
    const sparoa_queue_policy *queues = p->level_queues;
    p->preferred_sizes = NULL;
    p->level_queues = NULL;
    b->levels = sp_calloc(&b->alloc, (size_t)b->level_count, sizeof *b->levels);
    if (!b->levels) return sp_no_memory(&b->alloc, sizeof *b->levels, err);
    for (int32_t i = 0; i < b->level_count; i++)
        b->levels[i].policy = queues ? queues[i] : p->queue;
    if (!bytes) return SPAROA_OK;
    int32_t *copy = sp_alloc(&b->alloc, bytes);
    if (!copy) return sp_no_memory(&b->alloc, bytes, err);
    memcpy(copy, preferred, bytes);
    p->preferred_sizes = copy;
    return SPAROA_OK;
}

sparoa_status sp_batcher_init(sp_batcher *batcher, const sparoa_batch_policy *policy,
                              const sparoa_allocator *alloc, sparoa_error *err)
{
    static const sparoa_batch_policy alone = {.max_batch = INT32_MAX};
    *batcher = (sp_batcher){.alloc = *alloc,
                            .policy = policy ? *policy : alone,
                            .alone = !policy,
                            .limit_reason = SPAROA_RELEASE_FULL,
                            .earliest_ns = SP_NEVER};
    const sparoa_batch_policy *p = &batcher->policy;
    int32_t levels = p->priority_levels > 0 ? p->priority_levels : 1;
    if (policy) SP_TRY(check_policy(p, levels, err));
    batcher->limit = p->max_batch;
    batcher->level_count = levels;
    batcher->default_level = p->default_priority ? p->default_priority - 1 : levels - 1;
    sparoa_status status = copy_policy(batcher, err);
    if (status != SPAROA_OK) sp_batcher_destroy(batcher);
    return status;
}

void sp_batcher_destroy(sp_batcher *batcher)
{
    if (!batcher->levels) return;
    sp_free(&batcher->alloc, (void *)batcher->policy.preferred_sizes,
            batcher->policy.preferred_count * sizeof(int32_t));
    sp_free(&batcher->alloc, batcher->levels,
            (size_t)batcher->level_count * sizeof *batcher->levels);
    batcher->levels = NULL;
    batcher->policy.preferred_sizes = NULL;
}

/* ---- the queue ---- */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

bool sp_batcher_push(sp_batcher *batcher, sp_batch_item *item, int64_t queue_timeout_ns)
{
    sp_batch_level *level = &batcher->levels[item->level];
    const sparoa_queue_policy *q = &level->policy;
    if (q->max_queue_size && level->in_time.count + level->delayed.count >= q->max_queue_size)
        return false;
    int64_t timeout = q->default_timeout_ns ? q->default_timeout_ns : SP_NEVER;
    if (queue_timeout_ns > 0 && q->allow_timeout_override)
        timeout = min64(timeout, queue_timeout_ns);
    item->timeout_ns = timeout == SP_NEVER ? SP_NEVER : sp_later_ns(item->arrived_ns, timeout);
    batcher->earliest_ns = min64(batcher->earliest_ns, min64(item->timeout_ns, item->deadline_ns));
    sp_batch_append(&level->in_time, item);
    batcher->queued++;
    return true;
}

void sp_batcher_remove(sp_batcher *batcher, sp_batch_item *item)
{
    unlink_item(item);
    batcher->queued--;
    if (batcher->queued == 0) batcher->flush = false;
}

void sp_batcher_return(sp_batcher *batcher, sp_batch_item *item)
{
    prepend(&batcher->levels[item->level].in_time, item);
    batcher->earliest_ns = min64(batcher->earliest_ns, min64(item->timeout_ns, item->deadline_ns));
    batcher->queued++;
}

/* The first of a list that is to end, after those that are to be delayed were moved. */
static sp_batch_item *expire_list(sp_batch_level *level, sp_batch_list *list, int64_t now)
{
    for (sp_batch_item *item = list->head, *next; item; item = next) {
        next = item->next;
        if (item->deadline_ns <= now) return item;
        if (item->timeout_ns > now) continue;
        if (level->policy.timeout_action == SPAROA_TIMEOUT_REJECT) return item;
        item->timeout_ns = SP_NEVER;
        unlink_item(item);
        sp_batch_append(&level->delayed, item);
    }
    return NULL;
}

static int64_t earliest_of(const sp_batch_list *list, int64_t earliest)
{
    for (const sp_batch_item *item = list->head; item; item = item->next)
        earliest = min64(earliest, min64(item->timeout_ns, item->deadline_ns));
    return earliest;
}

sp_batch_item *sp_batcher_expire(sp_batcher *batcher, int64_t now_ns)
{
    if (now_ns < batcher->earliest_ns) return NULL;
    for (int32_t i = 0; i < batcher->level_count; i++) {
        sp_batch_level *level = &batcher->levels[i];
        sp_batch_item *item = expire_list(level, &level->in_time, now_ns);
        if (!item) item = expire_list(level, &level->delayed, now_ns);
        if (!item) continue;
        sp_batcher_remove(batcher, item);
        return item;
    }
    batcher->earliest_ns = SP_NEVER;
    for (int32_t i = 0; i < batcher->level_count; i++) {
        const sp_batch_level *level = &batcher->levels[i];
        batcher->earliest_ns = earliest_of(&level->in_time, batcher->earliest_ns);
        batcher->earliest_ns = earliest_of(&level->delayed, batcher->earliest_ns);
    }
    return NULL;
}

/* ---- forming ---- */

/* The item after `item` in the order of batches, the first one for NULL. */
static sp_batch_item *next_in_order(const sp_batcher *b, const sp_batch_item *item)
{
    int32_t i = 0;
    if (item) {
        if (item->next) return item->next;
        const sp_batch_level *level = &b->levels[item->level];
        if (item->list == &level->in_time && level->delayed.head) return level->delayed.head;
        i = item->level + 1;
    }
    for (; i < b->level_count; i++) {
        if (b->levels[i].in_time.head) return b->levels[i].in_time.head;
        if (b->levels[i].delayed.head) return b->levels[i].delayed.head;
    }
    return NULL;
}

/* The longest batch that could be formed now. */
typedef struct candidate {
    int32_t count, items;    /* requests, and the sum of their items */
    int32_t preferred_count; /* requests of the largest preferred size on the way; 0: none */
    bool closed;             /* cannot grow */
    sparoa_release closed_by;
    int64_t oldest_ns, deadline_ns;
} candidate;

static bool is_preferred(const sp_batcher *b, int32_t items)
{
    for (size_t i = 0; i < b->policy.preferred_count; i++)
        if (b->policy.preferred_sizes[i] == items) return true;
    return false;
}

static candidate find_candidate(const sp_batcher *b)
{
    candidate c = {.oldest_ns = SP_NEVER, .deadline_ns = SP_NEVER};
    const sp_batch_item *first = next_in_order(b, NULL);
    for (const sp_batch_item *item = first; item; item = next_in_order(b, item)) {
        bool fits = c.count == 0 || item->items <= b->limit - c.items;
        if (!fits || (c.count && b->same && !b->same(first, item))) {
            c.closed = true;
            c.closed_by = fits ? SPAROA_RELEASE_SHAPE : b->limit_reason;
            break;
        }
        c.count++;
        c.items += item->items;
        c.oldest_ns = min64(c.oldest_ns, item->arrived_ns);
        c.deadline_ns = min64(c.deadline_ns, item->deadline_ns);
        if (is_preferred(b, c.items)) c.preferred_count = c.count;
        if (c.items >= b->limit || b->alone) {
            c.closed = true;
            c.closed_by = b->limit_reason;
            break;
        }
    }
    return c;
}

static int32_t largest_preferred(const sp_batcher *b)
{
    int32_t most = 0;
    for (size_t i = 0; i < b->policy.preferred_count; i++)
        if (b->policy.preferred_sizes[i] > most) most = b->policy.preferred_sizes[i];
    return most;
}

/* Whether the candidate is due, and if not, when it will be. *count: how many of its requests. */
static bool decide(const sp_batcher *b, const candidate *c, int64_t now, int32_t *count,
                   sparoa_release *release, int64_t *wake)
{
    const sparoa_batch_policy *p = &b->policy;
    int64_t delay = p->max_queue_delay_ns, due = sp_later_ns(c->oldest_ns, delay);
    int32_t most = largest_preferred(b);
    *count = c->count;
    if (b->alone) {
        *release = SPAROA_RELEASE_ALONE;
        return true;
    }
    if (c->preferred_count && (delay == 0 || now < due)) {
        *count = c->preferred_count;
        *release = SPAROA_RELEASE_PREFERRED;
        return true;
    }
    if (c->closed || (most && c->items >= most)) {
        *release = c->closed ? c->closed_by : SPAROA_RELEASE_PREFERRED;
        return true;
    }
    if (delay == 0 || now >= due) {
        *release = delay ? SPAROA_RELEASE_DELAY : SPAROA_RELEASE_NO_DELAY;
        return true;
    }
    *release = SPAROA_RELEASE_FLUSH;
    if (b->flush) return true;
    int64_t run = b->run_ns ? b->run_ns(b->user, c->items) : 0;
    int64_t by_deadline = c->deadline_ns == SP_NEVER ? SP_NEVER : c->deadline_ns - run;
    int64_t by_objective = p->latency_objective_ns
                               ? sp_later_ns(c->oldest_ns, p->latency_objective_ns) - run
                               : SP_NEVER;
    *release = by_deadline <= now ? SPAROA_RELEASE_DEADLINE : SPAROA_RELEASE_LATENCY;
    *wake = min64(min64(due, by_deadline), min64(by_objective, b->earliest_ns));
    return by_deadline <= now || by_objective <= now;
}

int32_t sp_batcher_form(sp_batcher *batcher, int64_t now_ns, sp_batch_list *batch,
                        sparoa_release *release, int64_t *wake_ns)
{
    *wake_ns = SP_NEVER;
    *batch = (sp_batch_list){0};
    if (batcher->queued == 0) return 0;
    candidate c = find_candidate(batcher);
    int32_t count, items = 0;
    if (!decide(batcher, &c, now_ns, &count, release, wake_ns)) return 0;
    while (count-- > 0) {
        sp_batch_item *item = next_in_order(batcher, NULL);
        sp_batcher_remove(batcher, item);
        items += item->items;
        sp_batch_append(batch, item);
    }
    return items;
}

/* ---- how long batches take ---- */

void sp_batch_times_add(sp_batch_times *times, int32_t items, int64_t ns)
{
    if (items > times->max) return;
    sp_batch_time *t = &times->sizes[items];
    double weight = t->count < 8 ? 1.0 / (double)(t->count + 1) : 0.125;
    t->mean_ns += weight * ((double)ns - t->mean_ns);
    t->sum_ns += ns;
    t->count++;
}

int64_t sp_batch_times_expect(const sp_batch_times *times, int32_t items)
{
    if (items > times->max) items = times->max;
    int32_t below = items, above = items;
    while (below > 0 && !(times->sizes[below].mean_ns > 0)) below--;
    while (above <= times->max && !(times->sizes[above].mean_ns > 0)) above++;
    double scaled = below > 0 ? times->sizes[below].mean_ns * items / below : 0;
    if (above > times->max) return (int64_t)scaled;
    double most = times->sizes[above].mean_ns;
    return (int64_t)(below > 0 && scaled < most ? scaled : most);
}
