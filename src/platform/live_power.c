/* RAPL: the energy counters of x86 processors, and the energy of an interval over all sensors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "platform/live_parts.h"

#define POWERCAP "/sys/class/powercap"

/* Packages and their memory; what lies inside a package ("core", "uncore") or around it ("psys")
 * would count twice. */
void sp_live_power_sensors(sp_live *live)
{
    bool counted = sp_live_machine_counts(live); /* a sensor of the whole module covers this */
    sp_names zones;
    sp_live_list(live, POWERCAP, "intel-rapl:", &zones);
    for (size_t i = 0; i < zones.count; i++) {
        const char *z = zones.name[i];
        char type[32], range[32], name[48];
        if (!sp_live_text(live, type, sizeof type, POWERCAP "/%s/name", z)) continue;
        if (strncmp(type, "package-", 8) && strcmp(type, "dram")) continue;
        snprintf(name, sizeof name, "RAPL %s", type);
        sp_sensor *s = sp_live_add(live, SP_WHAT_ENERGY, SP_SENSOR_MACHINE, name,
                                   sp_live_file_number, POWERCAP "/%s/energy_uj", z);
        s->scale = 1e-6;
        s->counts = !counted;
        if (sp_live_text(live, range, sizeof range, POWERCAP "/%s/max_energy_range_uj", z))
            s->wrap = fmax(0, sp_live_number(range)) * 1e-6;
    }
}

/* ---- energy of an interval ---- */

enum { POWER_PERIOD_MS = 10, COUNTER_PERIOD_MS = 10000 };

/* Adds what passed since the sample before. */
static void sample(sp_live *live, bool first)
{
    int64_t now = sp_now_ns();
    double seconds = (double)(now - live->sample_ns) * 1e-9;
    sp_live_status_refresh(live);
    for (size_t i = 0; i < live->count; i++) {
        sp_sensor *s = &live->sensors[i];
        if (!s->counts) continue;
        double v = s->read(live, s);
        if (first) s->joules = 0;
        if (!first && v >= 0 && s->before >= 0) {
            if (s->what == SP_WHAT_POWER)
                s->joules += 0.5 * (v + s->before) * seconds;
            else
                s->joules += v >= s->before ? v - s->before : v - s->before + s->wrap;
        }
        s->before = v;
    }
    live->sample_ns = now;
}

static int32_t period_ms(const sp_live *live)
{
    int32_t period = 0;
    for (size_t i = 0; i < live->count; i++) {
        const sp_sensor *s = &live->sensors[i];
        if (!s->counts) continue;
        if (s->what == SP_WHAT_POWER) return POWER_PERIOD_MS;
        if (s->wrap > 0) period = COUNTER_PERIOD_MS;
    }
    return period;
}

static void *sampler(void *arg)
{
    sp_live *live = arg;
    int32_t period = period_ms(live);
    pthread_mutex_lock(&live->mutex);
    while (!live->stop) {
        struct timespec at;
        clock_gettime(CLOCK_REALTIME, &at);
        at.tv_nsec += period % 1000 * 1000000L;
        at.tv_sec += period / 1000 + at.tv_nsec / 1000000000;
        at.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&live->wake, &live->mutex, &at);
        if (!live->stop) sample(live, false);
    }
    pthread_mutex_unlock(&live->mutex);
    return NULL;
}

sparoa_status sp_energy_start(sp_live *live, sparoa_error *err)
{
    if (live->measuring)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL,
                           "an interval of energy has begun already: stop it first");
    live->stop = false;
    sample(live, true);
    live->energy_start_ns = live->sample_ns;
    if (period_ms(live)) {
        if (pthread_create(&live->thread, NULL, sampler, live))
            return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, NULL, "no thread to sample power");
        live->threaded = true;
    }
    live->measuring = true;
    return SPAROA_OK;
}

static void name_sensors(const sp_live *live, sparoa_energy *e)
{
    size_t used = 0;
    e->joules = -1;
    snprintf(e->sensor, sizeof e->sensor, "unknown");
    for (size_t i = 0; i < live->count; i++) {
        const sp_sensor *s = &live->sensors[i];
        if (!s->counts || s->before < 0) continue;
        int n =
            snprintf(e->sensor + used, sizeof e->sensor - used, "%s%s", used ? " + " : "", s->name);
        if (n > 0 && (size_t)n < sizeof e->sensor - used) used += (size_t)n;
        e->joules = (e->joules < 0 ? 0 : e->joules) + s->joules;
        e->sampled |= s->what == SP_WHAT_POWER;
    }
}

sparoa_status sp_energy_stop(sp_live *live, sparoa_energy *energy, sparoa_error *err)
{
    if (!live->measuring)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL, "no interval of energy has begun");
    if (live->threaded) {
        pthread_mutex_lock(&live->mutex);
        live->stop = true;
        pthread_cond_signal(&live->wake);
        pthread_mutex_unlock(&live->mutex);
        pthread_join(live->thread, NULL);
        live->threaded = false;
    }
    live->measuring = false;
    sample(live, false);
    if (!energy) return SPAROA_OK;
    *energy = (sparoa_energy){.seconds = (double)(live->sample_ns - live->energy_start_ns) * 1e-9};
    name_sensors(live, energy);
    return SPAROA_OK;
}
