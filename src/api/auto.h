/*
 * auto.h - sessions whose device is "auto": what they measured, chose and do in a run.
 *
 * Such a session is one on the CPU alone, and beside it holds, as long as something needs it, a
 * second session over all devices of the runtime, `devices`, whose plans are the candidates: plan 0
 * is the first plug-in device alone. A run at input shapes with a choice other than the CPU is one
 * of `devices` with that plan in use; everything else, a device's failure included, is a run of the
 * session itself. All of it is guarded by the session's mutex.
 */
#ifndef SP_API_AUTO_H
#define SP_API_AUTO_H

#include "api/schedule_objects.h"

#define SP_AUTO_HOST (-1) /* in place of a plan's index: the session itself, on the CPU */
#define SP_AUTO_CHOICES 64

/* What decides for one combination of input shapes. */
typedef struct sp_choice {
    struct sp_choice *next;
    sparoa_tensor *inputs; /* shapes; data is NULL */
    double bytes;          /* of the inputs: how near it is to others */
    int64_t runs;
    int32_t place;      /* plan of `devices`, or SP_AUTO_HOST */
    sparoa_plan *plan;  /* that one, where it is not a device alone */
    sparoa_choice info; /* info.source NONE: undecided */
} sp_choice;

/* What is known of the nodes of `devices`: measured times on every device, and its links. */
typedef struct sp_auto_basis {
    sparoa_profile profile; /* not counted as objects of the runtime: the session is */
    sparoa_platform platform;
    uint8_t *allowed; /* by node: bit d: device d can run it */
} sp_auto_basis;

typedef struct sp_auto {
    sparoa_session *devices;
    int32_t in_use;                 /* plan of `devices` that its next run is by */
    sparoa_session_options options; /* of `devices`; without texts of the caller's */
    char passes[256];               /* options.disable_passes */
    sp_choice *choices;             /* the latest decided or met first */
    int32_t choice_count;
    const sp_choice *current; /* of the latest run, or NULL */
    bool by_nearest;          /* which is another shapes' */
    bool on_devices;          /* the latest run or prepare was of `devices` */
    bool keep;                /* a watch may want `devices` though no choice does */
    double budget_ns;         /* left for measuring in runs */
    sp_auto_basis *basis;     /* of the latest measuring, or NULL */
    sp_choice *basis_of;      /* what that was for */
    char *cache;              /* path, or NULL */
    sparoa_cache_state cache_state;
    char cache_reason[192];
    sparoa_tensor *outputs; /* room for a measured run */
} sp_auto;

/* For a session that is ready on the CPU; `options` are those that it was created with. */
sparoa_status sp_auto_open(sparoa_session *session, const sparoa_session_options *options,
                           sparoa_error *err);
void sp_auto_close(sparoa_session *session);

/* A run, with the session's mutex held. */
sparoa_status sp_auto_run(sparoa_session *session, const sparoa_tensor *inputs, size_t input_count,
                          sparoa_tensor *outputs, size_t output_count, const sp_stop *stop,
                          sparoa_error *err);
/* The same for sparoa_session_prepare. */
sparoa_status sp_auto_prepare(sparoa_session *session, const sparoa_tensor *inputs,
                              size_t input_count, sparoa_error *err);

/* The choice for these shapes, made if it is new; NULL: there are too many, or no memory. */
sp_choice *sp_auto_choice(sparoa_session *session, const sparoa_tensor *inputs);
void sp_choice_destroy(const sparoa_session *session, sp_choice *choice);

/* Creates `devices` if it is not there. */
sparoa_status sp_auto_devices(sparoa_session *session, sparoa_error *err);
/* Lets go of it if no choice needs it. */
void sp_auto_release(sparoa_session *session);
/* Makes a plan of `devices` that of its next run. */
sparoa_status sp_auto_use(sp_auto *automatic, int32_t place, sparoa_error *err);

/* Measures and decides (auto_tune.c). Fails only where the CPU does. */
sparoa_status sp_auto_tune(sparoa_session *session, sp_choice *choice, const sparoa_tensor *inputs,
                           double budget_ns, sparoa_error *err);

/* Times of the nodes on every device, and what follows from them (auto_basis.c). */
sparoa_status sp_auto_basis_create(sparoa_session *session, const sparoa_tensor *inputs,
                                   sp_auto_basis **basis, sparoa_error *err);
void sp_auto_basis_destroy(const sparoa_session *session, sp_auto_basis *basis);
/* The latest run of `devices`, which it profiled, was of this device alone: takes over times. */
void sp_auto_basis_measured(const sparoa_session *devices, sp_auto_basis *basis, uint32_t device);
/* Prices for `allowed` as it is now. */
sparoa_status sp_auto_basis_env(const sparoa_session *session, const sp_auto_basis *basis,
                                sp_env **env, sparoa_error *err);
/* Everything that a device can run on it, the rest on the host. */
sparoa_status sp_auto_basis_single(const sparoa_session *session, const sp_auto_basis *basis,
                                   const sp_env *env, uint32_t device, sparoa_plan **plan,
                                   sparoa_error *err);
sparoa_status sp_auto_basis_plan(const sparoa_session *session, const sp_env *env,
                                 const uint8_t *device, const char *policy, sparoa_plan **plan,
                                 sparoa_error *err);

/* The file of auto_cache (auto_cache.c). Loading sets cache_state and the choices. */
void sp_auto_cache_load(sparoa_session *session);
void sp_auto_cache_save(sparoa_session *session);

/* A run of the session on the CPU or, for `devices`, of the plan in use; mutex held (session.c). */
sparoa_status sp_session_run_here(sparoa_session *session, const sparoa_tensor *inputs,
                                  size_t input_count, sparoa_tensor *outputs, size_t output_count,
                                  sparoa_error *err);
sparoa_status sp_session_prepare_here(sparoa_session *session, const sparoa_tensor *inputs,
                                      size_t input_count, sparoa_error *err);

#endif
