/* Runs tests in child processes, so that a crash or a hang of one is a failure of that one. A child
 * opens its runtime and device once and is handed one test after the other; after a failure, which
 * may have left the device or the process in any state, another takes its place. */
#include "cli/testrun.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct child {
    pid_t pid;    /* 0: none */
    int to, from; /* pipes: indices of tests, their results */
    bool busy;    /* with `test` */
    size_t test;
    int64_t start_ns;
    size_t got; /* bytes of the result that arrived */
    sp_test_result result;
} child;

typedef struct pool {
    const sp_cli *cli;
    const sp_testset *set;
    const sp_test_options *options;
    sp_test_result *results;
    sp_test_report_fn report;
    void *user;
    child *children;
    struct pollfd *polls;
    size_t next, reported, done, total;
    int64_t start_ns;
} pool;

static void finish(pool *p, size_t test, const sp_test_result *result)
{
    p->results[test] = *result;
    p->results[test].done = true;
    p->done++;
    while (p->reported < p->set->count &&
           (!p->set->items[p->reported].selected || p->results[p->reported].done)) {
        size_t i = p->reported++;
        if (!p->set->items[i].selected) continue;
        sp_cli_progress(p->cli, p->start_ns, NULL);
        p->report(p->user, &p->set->items[i], &p->results[i]);
    }
    sp_cli_progress(p->cli, p->start_ns, "%zu of %zu", p->done, p->total);
}

static bool write_all(int fd, const void *data, size_t size)
{
    for (const char *at = data; size > 0;) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static bool read_all(int fd, void *data, size_t size)
{
    for (char *at = data; size > 0;) {
        ssize_t n = read(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* The life of a child: until no more tests come. */
static void work(const pool *p, int from, int to)
{
    struct rlimit none = {0, 0};
    sp_test_host host = {0};
    size_t test;
    setrlimit(RLIMIT_CORE, &none);
    /* else the others would never see the end of their tests */
    for (int64_t i = 0; i < p->options->jobs; i++)
        if (p->children[i].pid) {
            close(p->children[i].to);
            close(p->children[i].from);
        }
    while (read_all(from, &test, sizeof test)) {
        sp_test_result result = sp_test_execute(&host, &p->set->items[test], p->options);
        if (!write_all(to, &result, sizeof result)) _exit(3);
    }
    sp_test_host_close(&host);
    _exit(0);
}

static bool start_child(pool *p, child *c)
{
    int tests[2], results[2];
    if (pipe(tests)) return false;
    if (pipe(results)) {
        close(tests[0]);
        close(tests[1]);
        return false;
    }
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (pid == 0) {
        close(tests[1]);
        close(results[0]);
        work(p, tests[0], results[1]);
    }
    close(tests[0]);
    close(results[1]);
    *c = (child){.pid = pid, .to = tests[1], .from = results[0]};
    if (pid > 0) return true;
    close(c->to);
    close(c->from);
    c->pid = 0;
    return false;
}

/* Waits for a child's end, which `at_once` brings about, and returns its state. */
static int end_child(child *c, bool at_once)
{
    int state = 0;
    if (c->to >= 0) close(c->to);
    if (at_once) kill(c->pid, SIGKILL);
    while (waitpid(c->pid, &state, 0) < 0 && errno == EINTR) {
    }
    close(c->from);
    c->pid = 0;
    return state;
}

/* A child that ended, or runs too long, in the middle of a test. */
static void fail_child(pool *p, child *c, bool late)
{
    sp_test_result r = {.outcome = SP_FAIL, .ns = sp_cli_now_ns() - c->start_ns};
    int state = end_child(c, late);
    if (late)
        snprintf(r.reason, sizeof r.reason, "ran longer than the limit of %g s",
                 p->options->timeout);
    else if (WIFSIGNALED(state))
        snprintf(r.reason, sizeof r.reason, "crashed: %s", strsignal(WTERMSIG(state)));
    else
        snprintf(r.reason, sizeof r.reason, "the process ended with code %d and no result",
                 WEXITSTATUS(state));
    finish(p, c->test, &r);
}

static void serve(pool *p, child *c)
{
    ssize_t n = read(c->from, (char *)&c->result + c->got, sizeof c->result - c->got);
    if (n < 0 && errno == EINTR) return;
    if (n <= 0) {
        fail_child(p, c, false);
        return;
    }
    c->got += (size_t)n;
    if (c->got < sizeof c->result) return;
    c->busy = false;
    /* what a failed test left may hang when it is closed in order */
    if (c->result.spoilt) end_child(c, true);
    finish(p, c->test, &c->result);
}

static bool fill(pool *p)
{
    for (int64_t i = 0; i < p->options->jobs; i++) {
        child *c = &p->children[i];
        if (c->pid && c->busy) continue;
        while (p->next < p->set->count && !p->set->items[p->next].selected) p->next++;
        if (p->next >= p->set->count) return true;
        if (!c->pid && !start_child(p, c)) return false;
        c->test = p->next++;
        c->busy = true;
        c->got = 0;
        c->start_ns = sp_cli_now_ns();
        /* a child that has ended meanwhile is noticed when its result is read */
        (void)write_all(c->to, &c->test, sizeof c->test);
    }
    return true;
}

static void wait_for_some(pool *p)
{
    nfds_t count = 0;
    for (int64_t i = 0; i < p->options->jobs; i++)
        if (p->children[i].pid && p->children[i].busy)
            p->polls[count++] = (struct pollfd){p->children[i].from, POLLIN, 0};
    poll(p->polls, count, 100);
    nfds_t at = 0;
    int64_t limit = (int64_t)(p->options->timeout * 1e9), now = sp_cli_now_ns();
    for (int64_t i = 0; i < p->options->jobs; i++) {
        child *c = &p->children[i];
        if (!c->pid || !c->busy) continue;
        if (p->polls[at++].revents)
            serve(p, c);
        else if (now - c->start_ns > limit)
            fail_child(p, c, true);
    }
}

/* Lets the children close their runtimes. */
static bool end_children(pool *p, bool at_once)
{
    bool good = true;
    for (int64_t i = 0; i < p->options->jobs; i++) {
        child *c = &p->children[i];
        if (!c->pid) continue;
        struct pollfd end = {c->from, POLLIN, 0};
        close(c->to);
        c->to = -1;
        bool late = at_once || poll(&end, 1, (int)(p->options->timeout * 1e3)) == 0;
        int state = end_child(c, late);
        if (!at_once && (late || !WIFEXITED(state) || WEXITSTATUS(state))) good = false;
    }
    return good;
}

static void run_here(pool *p)
{
    sp_test_host host = {0};
    for (size_t i = 0; i < p->set->count; i++) {
        if (!p->set->items[i].selected) continue;
        sp_test_result result = sp_test_execute(&host, &p->set->items[i], p->options);
        if (result.spoilt) sp_test_host_close(&host);
        finish(p, i, &result);
    }
    sp_test_host_close(&host);
}

static bool run_in_children(pool *p)
{
    p->children = calloc((size_t)p->options->jobs, sizeof *p->children);
    p->polls = calloc((size_t)p->options->jobs, sizeof *p->polls);
    bool good = p->children && p->polls;
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    while (good && p->done < p->total) {
        good = fill(p);
        if (good) wait_for_some(p);
    }
    if (!good) sp_cli_fail(p->cli, SP_EXIT_FAIL, "cannot start a process for a test");
    if (p->children && !end_children(p, !good)) {
        sp_cli_fail(p->cli, SP_EXIT_FAIL, "a process crashed or hung when it closed its device");
        good = false;
    }
    signal(SIGPIPE, before);
    free(p->children);
    free(p->polls);
    return good;
}

bool sp_tests_run(const sp_cli *cli, const sp_testset *set, const sp_test_options *options,
                  sp_test_result *results, sp_test_report_fn report, void *user)
{
    pool p = {.cli = cli,
              .set = set,
              .options = options,
              .results = results,
              .report = report,
              .user = user};
    p.start_ns = sp_cli_now_ns();
    for (size_t i = 0; i < set->count; i++) p.total += set->items[i].selected;
    bool good = true;
    if (options->jobs == 0)
        run_here(&p);
    else
        good = run_in_children(&p);
    sp_cli_progress(cli, p.start_ns, NULL);
    return good;
}
