/* Runs tests in child processes, so that a crash or a hang of one is a failure of that one. */
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
    pid_t pid; /* 0: free */
    int pipe;
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

static bool start_child(pool *p, child *c, size_t test)
{
    int ends[2];
    if (pipe(ends)) return false;
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (pid < 0) {
        close(ends[0]);
        close(ends[1]);
        return false;
    }
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        close(ends[0]);
        sp_test_result result = sp_test_execute(&p->set->items[test], p->options);
        _exit(write_all(ends[1], &result, sizeof result) ? 0 : 3);
    }
    close(ends[1]);
    *c = (child){.pid = pid, .pipe = ends[0], .test = test, .start_ns = sp_cli_now_ns()};
    return true;
}

/* Takes what is left of a child that ended or is to end. */
static void reap(pool *p, child *c, bool late)
{
    int state = 0;
    if (late) kill(c->pid, SIGKILL);
    while (waitpid(c->pid, &state, 0) < 0 && errno == EINTR) {
    }
    close(c->pipe);
    sp_test_result *r = &c->result;
    if (late || c->got != sizeof *r || !WIFEXITED(state) || WEXITSTATUS(state)) {
        *r = (sp_test_result){.outcome = SP_FAIL, .ns = sp_cli_now_ns() - c->start_ns};
        if (late)
            snprintf(r->reason, sizeof r->reason, "ran longer than the limit of %g s",
                     p->options->timeout);
        else if (WIFSIGNALED(state))
            snprintf(r->reason, sizeof r->reason, "crashed: %s", strsignal(WTERMSIG(state)));
        else
            snprintf(r->reason, sizeof r->reason, "the process ended with code %d and no result",
                     WEXITSTATUS(state));
    }
    c->pid = 0;
    finish(p, c->test, r);
}

static void serve(pool *p, child *c)
{
    ssize_t n = read(c->pipe, (char *)&c->result + c->got, sizeof c->result - c->got);
    if (n > 0) c->got += (size_t)n;
    if (n == 0 || c->got == sizeof c->result) reap(p, c, false);
}

static bool fill(pool *p)
{
    for (int64_t i = 0; i < p->options->jobs; i++) {
        if (p->children[i].pid) continue;
        while (p->next < p->set->count && !p->set->items[p->next].selected) p->next++;
        if (p->next >= p->set->count) return true;
        if (!start_child(p, &p->children[i], p->next)) return false;
        p->next++;
    }
    return true;
}

static void wait_for_some(pool *p)
{
    nfds_t count = 0;
    for (int64_t i = 0; i < p->options->jobs; i++)
        if (p->children[i].pid) p->polls[count++] = (struct pollfd){p->children[i].pipe, POLLIN, 0};
    poll(p->polls, count, 100);
    nfds_t at = 0;
    int64_t limit = (int64_t)(p->options->timeout * 1e9), now = sp_cli_now_ns();
    for (int64_t i = 0; i < p->options->jobs; i++) {
        child *c = &p->children[i];
        if (!c->pid) continue;
        if (p->polls[at++].revents)
            serve(p, c);
        else if (now - c->start_ns > limit)
            reap(p, c, true);
    }
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
    if (options->jobs == 0) {
        for (size_t i = 0; i < set->count; i++) {
            if (!set->items[i].selected) continue;
            sp_test_result result = sp_test_execute(&set->items[i], options);
            finish(&p, i, &result);
        }
    } else {
        p.children = calloc((size_t)options->jobs, sizeof *p.children);
        p.polls = calloc((size_t)options->jobs, sizeof *p.polls);
        good = p.children && p.polls;
        while (good && p.done < p.total) {
            good = fill(&p);
            if (good) wait_for_some(&p);
        }
        for (int64_t i = 0; p.children && i < options->jobs; i++)
            if (p.children[i].pid) reap(&p, &p.children[i], true);
        free(p.children);
        free(p.polls);
    }
    sp_cli_progress(cli, p.start_ns, NULL);
    return good;
}
