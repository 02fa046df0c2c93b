#include "platform/watch.h"

#include <math.h>

const char *sp_watch_reason_text(sp_watch_reason reason)
{
    static const char *const texts[] = {"inside", "load", "clock", "memory"};
    return texts[reason];
}

static double or_default(double value, double fallback)
{
    return value != 0 ? value : fallback;
}

void sp_watch_start(sp_watch *w, const sp_watch_options *options, const sp_platform_state *planned,
                    uint32_t device_count, int64_t now_ns)
{
    *w = (sp_watch){.planned = *planned,
                    .seen = *planned,
                    .device_count = device_count,
                    .last_ns = now_ns,
                    .start_ns = now_ns};
    if (options) w->o = *options;
    w->o.load_band = or_default(w->o.load_band, 0.15);
    w->o.clock_band = or_default(w->o.clock_band, 0.15);
    w->o.memory_limit = or_default(w->o.memory_limit, 0.95);
    w->o.hold_ns = or_default(w->o.hold_ns, 100e6);
    w->o.smooth_ns = or_default(w->o.smooth_ns, 50e6);
    w->o.switch_share = or_default(w->o.switch_share, 0.01);
}

static void blend(double *to, double from, double share)
{
    *to += share * (from - *to);
}

static void smooth(sp_watch *w, const sp_platform_state *s, int64_t now_ns)
{
    double passed = fmax(0, (double)(now_ns - w->last_ns)); /* callers' times may go back */
    double share = w->ready && w->o.smooth_ns > 0 ? 1 - exp(-passed / w->o.smooth_ns) : 1;
    for (uint32_t d = 0; d < w->device_count; d++) {
        sp_device_state *to = &w->seen.device[d];
        blend(&to->load, s->device[d].load, share);
        blend(&to->clock, s->device[d].clock, share);
        to->units = s->device[d].units;
        to->temperature = s->device[d].temperature;
        to->memory_used = s->device[d].memory_used;
    }
    blend(&w->seen.memory_clock, s->memory_clock, share);
    w->seen.idle_watts = s->idle_watts;
    w->last_ns = now_ns;
    w->ready = true;
}

static double apart(double now, double planned)
{
    return planned > 0 ? fabs(now / planned - 1) : 0;
}

/* How far the state is from the planned one in bands, and by what. */
static double distance(const sp_watch *w, sp_watch_reason *reason)
{
    double far = apart(w->seen.memory_clock, w->planned.memory_clock) / w->o.clock_band;
    *reason = SP_WATCH_CLOCK;
    for (uint32_t d = 0; d < w->device_count; d++) {
        const sp_device_state *s = &w->seen.device[d], *p = &w->planned.device[d];
        double clock = fmax(apart(s->clock, p->clock), apart(s->units, p->units));
        double load = fabs(s->load - p->load) / w->o.load_band;
        bool full = s->memory_used > w->o.memory_limit && p->memory_used <= w->o.memory_limit;
        if (clock / w->o.clock_band > far) {
            far = clock / w->o.clock_band;
            *reason = SP_WATCH_CLOCK;
        }
        if (load > far) {
            far = load;
            *reason = SP_WATCH_LOAD;
        }
        if (full) {
            *reason = SP_WATCH_MEMORY;
            return INFINITY;
        }
    }
    return far;
}

sp_watch_reason sp_watch_feed(sp_watch *w, const sp_platform_state *state, double cost_ns,
                              int64_t now_ns)
{
    smooth(w, state, now_ns);
    sp_watch_reason why;
    double far = distance(w, &why);
    if (!w->outside && far > 1) {
        w->outside = true;
        w->outside_since_ns = now_ns;
    }
    if (w->outside && far < 0.5) w->outside = false;
    w->reason = w->outside ? why : SP_WATCH_INSIDE;
    if (!w->outside || (double)(now_ns - w->outside_since_ns) < w->o.hold_ns)
        return SP_WATCH_INSIDE;
    if (far <= 1) return SP_WATCH_INSIDE; /* on its way back */
    /* The first switch is free: a plan for a machine that is no longer so may be far off. */
    double budget = w->o.switch_share * (double)(now_ns - w->start_ns);
    if (w->switches && w->spent_ns + cost_ns > budget) {
        w->held_back++;
        return SP_WATCH_INSIDE;
    }
    return w->reason;
}

void sp_watch_switched(sp_watch *w, const sp_platform_state *planned, double cost_ns,
                       int64_t now_ns)
{
    w->planned = *planned;
    w->outside = false;
    w->reason = SP_WATCH_INSIDE;
    w->spent_ns += cost_ns;
    w->switches++;
    w->last_ns = now_ns;
}
