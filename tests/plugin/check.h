/* check.h - parts of plugin_check: what every check gets, and the generated nodes. */
#ifndef TESTS_PLUGIN_CHECK_H
#define TESTS_PLUGIN_CHECK_H

#include "plugin/plugin_host.h"

/* An open device with two queues, and what was found out. */
typedef struct check {
    plugin_host h;
    const sparoa_backend *t;
    const char *options;
    sparoa_dev *dev;
    sparoa_queue *queues[2];
    sparoa_device_info info;
    int passed, failed, unsupported;
} check;

/* Counts, and prints what failed. Returns `ok`. */
bool check_that(check *c, bool ok, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define CASE_PORTS 8
#define CASE_ATTRS 12
#define CASE_TEXT 512

/* A node on the host with the outputs that the plain implementation gives. */
typedef struct case_node {
    sparoa_node node;
    sparoa_tensor in[CASE_PORTS], out[CASE_PORTS];
    sparoa_tensor *in_list[CASE_PORTS], *out_list[CASE_PORTS];
    void *values[CASE_PORTS], *results[CASE_PORTS]; /* data of in and out */
    sparoa_attr attrs[CASE_ATTRS];
    int64_t ints[CASE_ATTRS][16];
    bool constant[CASE_PORTS], positive[CASE_PORTS];
    const sparoa_op *op;
    char text[CASE_TEXT], storage[CASE_TEXT];
} case_node;

/* The index-th case of the list; false: there is none. Fails the check where it is not well
 * written. */
bool case_listed(check *c, size_t index, case_node *n);
/* A node of a row with inputs of one random shape and no attributes. False: the row does not take
 * that. */
bool case_of_row(const sparoa_op *op, uint64_t seed, case_node *n);
/* Fills inputs that are not constant with other numbers. */
void case_refill(case_node *n, uint64_t seed);
/* Runs the plain implementation. */
sparoa_status case_run(case_node *n);
/* The largest departure of `got` from output i, as a multiple of what is allowed; NaN never passes.
 */
double case_departure(const case_node *n, int32_t i, const void *got);
void case_free(case_node *n);

/* Every supported case on the device against the plain implementation (check_nodes.c). */
void check_nodes(check *c);

#endif
