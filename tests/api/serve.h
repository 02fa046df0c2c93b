/* serve.h - what the tests of servers share. */
#ifndef TESTS_API_SERVE_H
#define TESTS_API_SERVE_H

#include <pthread.h>
#include <unistd.h>

#include "sparoa_serve.h"
#include "tests/support/support.h"

/* x [N,4] -> x after a Loop that never ends. With an empty body there is not even a node in it. */
static inline mb_model *endless_net(int empty)
{
    mb_model *m = mb_new();
    mb_graph *g = m->graph;
    mb_input(g, "x", SPAROA_FLOAT32, MB_DIMS(-1, 4));
    mb_graph *body = mb_subgraph(mb_add(g, "Loop", "loop", ",,x", "y"), "body");
    ts_loop_inputs(body);
    mb_input(body, "s", SPAROA_FLOAT32, MB_DIMS(-1, 4));
    if (!empty) {
        mb_add(body, "Identity", "keep", "go", "go_on");
        mb_add(body, "Neg", "neg", "s", "next");
    }
    mb_output(body, empty ? "go" : "go_on");
    mb_output(body, empty ? "s" : "next");
    mb_output(g, "y");
    return m;
}

static inline sparoa_server *make_server(sparoa_runtime *rt, int32_t threads)
{
    sparoa_server_options o = {.struct_size = sizeof o, .threads = threads};
    sparoa_server *server = NULL;
    sparoa_error err;
    ts_ok(sparoa_server_create(rt, &o, &server, &err), err);
    return server;
}

static inline sparoa_service *make_service(sparoa_server *server, sparoa_model *model,
                                           const sparoa_batch_policy *batch, int32_t priority)
{
    sparoa_service_options o = {.struct_size = sizeof o, .batch = batch, .priority = priority};
    sparoa_service *service = NULL;
    sparoa_error err;
    ts_ok(sparoa_service_create(server, model, &o, &service, &err), err);
    return service;
}

/* Submits one input; outputs are the request's memory. */
static inline sparoa_request *submit(sparoa_service *service, const sparoa_tensor *in,
                                     const sparoa_submit_options *o)
{
    sparoa_request *r = NULL;
    sparoa_error err;
    ts_ok(sparoa_submit(service, in, 1, NULL, 0, o, &r, &err), err);
    return r;
}

static inline void wait_running(sparoa_service *service)
{
    sparoa_service_info info;
    do {
        usleep(200);
        sparoa_service_get_info(service, &info);
    } while (info.queued);
}

#endif
