/*
 * bench_server.h - the server scenario of `sparoa bench`: requests that arrive at random.
 *
 * Arrivals are a Poisson process at a fixed rate, whether or not answers come back in time; the
 * latency of a request counts from when it was due to arrive, so that a late generator does not
 * hide a queue.
 */
#ifndef SP_CLI_BENCH_SERVER_H
#define SP_CLI_BENCH_SERVER_H

#include "cli/job.h"
#include "cli/stats.h"
#include "sparoa_serve.h"

typedef struct sp_server_bench {
    double rate; /* requests per second; 0: half of what one after the other reaches */
    double delay_ms, deadline_ms, objective_ms, p99_ms; /* 0: none */
    int64_t max_batch, workers, seed;
    const char *preferred; /* "4,8", or NULL */
    /* results */
    sparoa_service_info info;
    int64_t sent, done, refused, late;
    double seconds; /* from the first arrival to the last answer */
    struct {
        int64_t count, mean_ns;
    } * sizes; /* batches by items, max_batch + 1 of them */
} sp_server_bench;

#define SP_SERVER_BENCH_ROWS 10 /* the end included */
void sp_server_bench_args(sp_server_bench *bench, sp_arg *rows);

/* Runs for `seconds`; latencies of what was answered go to samples. An exit code, or -1. */
int sp_server_bench_run(const sp_cli *cli, const sp_job *job, double seconds,
                        const sparoa_session_options *options, sp_server_bench *bench,
                        sp_samples *samples);
void sp_server_bench_text(const sp_server_bench *bench, const sp_stats *ns);
void sp_server_bench_json(sp_json *json, const sp_server_bench *bench, const sp_stats *ns);
void sp_server_bench_free(sp_server_bench *bench);

#endif
