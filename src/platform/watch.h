/*
 * watch.h - has the machine left the state that a plan was made for?
 *
 * Fed with states as they are read, it smooths them and says when to plan again. Twice guarded
 * against swinging: a state must stay outside the plan's band for a while and comes back inside
 * only below half of it, and switching may not cost more than a share of the time that passes.
 * A value type without clock or allocation: the caller brings both, so that tests need no sleep.
 */
#ifndef SP_PLATFORM_WATCH_H
#define SP_PLATFORM_WATCH_H

#include "platform/platform.h"

typedef struct sp_watch_options {
    double load_band;    /* change of a device's load by other work; 0: 0.15 */
    double clock_band;   /* change of a clock, units or memory clock, of the planned; 0: 0.15 */
    double memory_limit; /* share of a device's memory in use; 0: 0.95 */
    double hold_ns;      /* how long it must stay outside; 0: 100 ms */
    double smooth_ns;    /* time constant of the smoothing; 0: 50 ms; negative: none */
    double switch_share; /* most of the time that switching may take; 0: 0.01 */
} sp_watch_options;

typedef enum sp_watch_reason {
    SP_WATCH_INSIDE, /* nothing to do */
    SP_WATCH_LOAD,
    SP_WATCH_CLOCK,
    SP_WATCH_MEMORY
} sp_watch_reason;
const char *sp_watch_reason_text(sp_watch_reason reason); /* "load" */

typedef struct sp_watch {
    sp_watch_options o;
    uint32_t device_count;
    sp_platform_state planned; /* what the running plan was made for */
    sp_platform_state seen;    /* smoothed; what to plan for */
    int64_t last_ns, outside_since_ns, start_ns;
    bool outside, ready; /* ready: `seen` holds something */
    sp_watch_reason reason;
    double spent_ns;              /* on planning and switching since the start */
    uint32_t switches, held_back; /* held_back: times the budget forbade a switch */
} sp_watch;

/* options NULL: defaults. */
void sp_watch_start(sp_watch *w, const sp_watch_options *options, const sp_platform_state *planned,
                    uint32_t device_count, int64_t now_ns);

/* Takes in a state. Anything but INSIDE: plan again for w->seen now, then call sp_watch_switched.
 * cost_ns: what planning and switching is expected to cost. */
sp_watch_reason sp_watch_feed(sp_watch *w, const sp_platform_state *state, double cost_ns,
                              int64_t now_ns);

/* A plan for `planned` runs from now on; getting there took cost_ns. Also where the planner kept
 * the old plan, so that it is not asked again for the same state. */
void sp_watch_switched(sp_watch *w, const sp_platform_state *planned, double cost_ns,
                       int64_t now_ns);

#endif
