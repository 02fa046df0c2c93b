#include "engine/stop.h"

#include "base/clock.h"
#include "sparoa_backend.h"
#include "sparoa_serve.h"

static sparoa_status ask(const sp_stop *stop)
{
    if (stop->cancel && __atomic_load_n(stop->cancel, __ATOMIC_RELAXED)) return SPAROA_CANCELLED;
    if (stop->deadline_ns && sp_now_ns() >= stop->deadline_ns) return SPAROA_DEADLINE;
    return stop->check ? stop->check(stop->user) : SPAROA_OK;
}

sparoa_status sp_stop_check(const sp_stop *stop, sparoa_error *err)
{
    sparoa_status status = stop ? ask(stop) : SPAROA_OK;
    if (status == SPAROA_OK) return status;
    return sparoa_fail(err, status, NULL, "the run was stopped between two nodes: %s",
                       sparoa_status_text(status));
}

int64_t sparoa_now_ns(void)
{
    return sp_now_ns();
}

void sparoa_cancel_request(sparoa_cancel *cancel)
{
    if (cancel) __atomic_store_n(&cancel->requested, 1, __ATOMIC_RELAXED);
}

void sparoa_cancel_reset(sparoa_cancel *cancel)
{
    if (cancel) __atomic_store_n(&cancel->requested, 0, __ATOMIC_RELAXED);
}
