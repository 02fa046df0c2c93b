/* sparoa report: plan, reasons, timeline, quadrants and the policies side by side as one HTML file.
 */
#include "cli/html.h"
#include "cli/plan_job.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POLICIES = 32, REASONS = 16, LANE = 26, LEFT = 70, WIDE = 980 };

typedef struct row {
    const char *policy;
    sparoa_plan *plan;
    sparoa_plan_info info;
    sparoa_simulation_result sim;
} row;

typedef struct report_command {
    sp_plan_job job;
    const char *output, *policy;
    int64_t runs;
    row rows[POLICIES];
    size_t count, chosen; /* chosen: the row whose plan is shown */
    FILE *file;
} report_command;

static int run_policy(report_command *c, const char *policy)
{
    sp_plan_job *p = &c->job;
    row *r = &c->rows[c->count];
    sparoa_error err;
    sparoa_simulation_options o = {
        .struct_size = sizeof o, .mode = p->mode, .runs = (uint32_t)c->runs};
    memcpy(o.load, p->options.load, sizeof o.load);
    p->options.policy = r->policy = policy;
    if (sparoa_plan_create(p->profile, p->platform, &p->options, &r->plan, &err))
        return sp_cli_error(p->cli, policy, &err);
    if (strcmp(policy, c->policy) == 0) c->chosen = c->count;
    c->count++;
    sparoa_plan_get_info(r->plan, &r->info);
    if (sparoa_simulate(r->plan, p->profile, p->platform, &o, &r->sim, &err))
        return sp_cli_error(p->cli, policy, &err);
    return -1;
}

static const row *row_of(const report_command *c, const char *policy)
{
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->rows[i].policy, policy) == 0) return &c->rows[i];
    return NULL;
}

static void tile(FILE *f, const char *what, const char *format, double value)
{
    fputs("<div class=\"tile\"><b>", f);
    fprintf(f, format, value);
    fputs("</b><span>", f);
    sp_html_text(f, what);
    fputs("</span></div>\n", f);
}

static void put_head(const report_command *c)
{
    FILE *f = c->file;
    const row *r = &c->rows[c->chosen], *cpu = row_of(c, "cpu"), *gpu = row_of(c, "gpu");
    double all = 0;
    fputs("<h1>", f);
    sp_html_text(f, c->job.job.path);
    fputs("</h1>\n<div class=\"label\"><b>simulated</b> on ", f);
    sp_html_text(f, r->info.platform);
    fputs(" (", f);
    sp_html_text(f, c->job.platform_path);
    fprintf(f,
            "), %s regime, policy %s, objective %s%s%s: computed from a description, not measured",
            r->info.regime, r->policy, r->info.objective, c->job.mode ? ", mode " : "",
            c->job.mode ? c->job.mode : "");
    fputs("</div>\n<div class=\"tiles\">\n", f);
    tile(f, "ms predicted", "%.3f", r->info.latency_ns * 1e-6);
    tile(f, "ms simulated, mean", "%.3f", r->sim.mean_ns * 1e-6);
    if (cpu) tile(f, "times as fast as the host alone", "%.2f", cpu->sim.mean_ns / r->sim.mean_ns);
    if (gpu)
        tile(f, "times as fast as the accelerator alone", "%.2f",
             gpu->sim.mean_ns / r->sim.mean_ns);
    tile(f, "mJ per inference", "%.2f", r->sim.energy_j * 1e3);
    for (size_t d = 0; d < r->info.device_count; d++) all += r->info.flops[d];
    for (size_t d = 0; d < r->info.device_count; d++) {
        char what[64];
        snprintf(what, sizeof what, "%% of the FLOPs on %.32s, %zu operators", r->info.device[d],
                 r->info.nodes[d]);
        tile(f, what, "%.0f", all > 0 ? 100 * r->info.flops[d] / all : 0);
    }
    tile(f, "copies", "%.0f", (double)r->info.copies);
    fputs("</div>\n", f);
}

static void put_policies(const report_command *c)
{
    FILE *f = c->file;
    double slowest = 0, most = 0;
    for (size_t i = 0; i < c->count; i++) {
        slowest = fmax(slowest, c->rows[i].sim.mean_ns * 1e-6);
        most = fmax(most, c->rows[i].sim.energy_j * 1e3);
    }
    fputs(
        "<h2>Policies and energy</h2>\n<div class=\"scroll\"><table><tr><th class=\"l\">policy</th>"
        "<th>predicted ms</th><th>simulated ms</th><th>p99 ms</th><th>energy mJ</th>"
        "<th>mean W</th><th>accelerator busy %</th><th>copies ms</th><th>segments</th>"
        "<th>planned in ms</th><th class=\"l\">proved</th></tr>\n",
        f);
    for (size_t i = 0; i < c->count; i++) {
        const row *r = &c->rows[i];
        double busy = 0;
        for (size_t d = 1; d < r->info.device_count; d++) busy += r->sim.busy_ns[d];
        fprintf(f, "<tr%s><td class=\"l\">%s</td><td>%.3f</td>",
                i == c->chosen ? " class=\"chosen\"" : "", r->policy, r->info.latency_ns * 1e-6);
        sp_html_bar(f, r->sim.mean_ns * 1e-6, slowest, "%.3f", "#cfe0f1");
        fprintf(f, "<td>%.3f</td>", r->sim.p99_ns * 1e-6);
        sp_html_bar(f, r->sim.energy_j * 1e3, most, "%.2f", "#f6dcc0");
        fprintf(f, "<td>%.1f</td><td>%.0f</td><td>%.3f</td><td>%zu</td><td>%.2f</td>",
                r->sim.mean_ns > 0 ? r->sim.energy_j / r->sim.mean_ns * 1e9 : 0,
                r->sim.mean_ns > 0 ? 100 * busy / r->sim.mean_ns : 0, r->sim.transfer_ns * 1e-6,
                r->info.segments, r->info.plan_ns * 1e-6);
        fprintf(f, "<td class=\"l\">%s</td></tr>\n", r->info.optimal ? "optimal" : "");
    }
    fprintf(
        f,
        "</table></div>\n<p class=\"note\">%lld simulated inferences each, with noise and shared "
        "memory; no plan is faster than %.3f ms by these prices.</p>\n",
        (long long)c->runs, c->rows[c->chosen].info.lower_bound_ns * 1e-6);
}

static size_t device_of(const sparoa_plan_info *info, const char *name)
{
    size_t d = 0;
    while (d + 1 < info->device_count && strcmp(info->device[d], name)) d++;
    return d;
}

static void put_block(const report_command *c, const sparoa_plan_node_info *n, size_t device,
                      double scale)
{
    FILE *f = c->file;
    const char *fill = sp_html_device(device);
    double y = 8 + (double)device * (LANE + 8);
    fprintf(f, "<rect x=\"%.2f\" y=\"%.0f\" width=\"%.2f\" height=\"%d\" fill=\"%s\"><title>",
            LEFT + n->start_ns * scale, y, fmax(0.3, (n->finish_ns - n->start_ns) * scale), LANE,
            fill);
    sp_html_text(f, n->name);
    fprintf(f, " (%s): %.1f to %.1f us, %s</title></rect>\n", n->op, n->start_ns * 1e-3,
            n->finish_ns * 1e-3, n->reason);
}

static void put_timeline(const report_command *c)
{
    FILE *f = c->file;
    const row *r = &c->rows[c->chosen];
    size_t lanes = r->info.device_count;
    double scale = r->info.latency_ns > 0 ? (WIDE - LEFT - 10) / r->info.latency_ns : 0;
    double bottom = 8 + (double)(lanes + 1) * (LANE + 8);
    fprintf(f,
            "<h2>Timeline of one inference</h2>\n<svg viewBox=\"0 0 %d %.0f\" width=\"%d\" "
            "font-family=\"sans-serif\" font-size=\"11\" fill=\"#444\">\n",
            WIDE, bottom + 24, WIDE);
    for (size_t d = 0; d <= lanes; d++) {
        double y = 8 + (double)d * (LANE + 8);
        fprintf(f, "<rect x=\"%d\" y=\"%.0f\" width=\"%d\" height=\"%d\" fill=\"#f3f3f3\"/>", LEFT,
                y, WIDE - LEFT - 10, LANE);
        fprintf(f, "<text x=\"%d\" y=\"%.0f\" text-anchor=\"end\">", LEFT - 8, y + 17);
        sp_html_text(f, d < lanes ? r->info.device[d] : "copies");
        fputs("</text>\n", f);
    }
    fputs("<g stroke=\"#fff\" stroke-width=\"0.4\">\n", f);
    for (size_t i = 0; i < r->info.node_count; i++) {
        sparoa_plan_node_info n;
        sparoa_plan_node(r->plan, i, &n);
        if (n.finish_ns > n.start_ns) put_block(c, &n, device_of(&r->info, n.device), scale);
        if (n.finish_ns > n.start_ns && n.split_device)
            put_block(c, &n, device_of(&r->info, n.split_device), scale);
        if (!(n.transfer_ns > 0)) continue;
        double from = fmax(0, n.start_ns - n.transfer_ns);
        fprintf(f, "<rect x=\"%.2f\" y=\"%.0f\" width=\"%.2f\" height=\"%d\" fill=\"#c44\"><title>",
                LEFT + from * scale, 8 + (double)lanes * (LANE + 8),
                fmax(0.3, n.transfer_ns * scale), LANE);
        fprintf(f, "%.1f us of copies for ", n.transfer_ns * 1e-3);
        sp_html_text(f, n.name);
        fputs("</title></rect>\n", f);
    }
    fputs("</g>\n", f);
    for (int k = 0; k <= 5; k++)
        fprintf(f, "<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"%s\">%.3g ms</text>\n",
                LEFT + k * 0.2 * (WIDE - LEFT - 10), bottom + 14, k == 5 ? "end" : "middle",
                k * 0.2 * r->info.latency_ns * 1e-6);
    fputs(
        "</svg>\n<p class=\"note\">As predicted, without noise. Copies are drawn to end where the "
        "operator that needs them begins; they may have been made earlier. Point at a block for "
        "its "
        "name and reason.</p>\n",
        f);
}

static int put_quadrants(const report_command *c)
{
    size_t size = sparoa_profile_svg_text(c->job.profile, 0, 0, NULL, 0) + 1;
    char *svg = malloc(size);
    if (!svg) return sp_cli_fail(c->job.cli, SP_EXIT_FAIL, "no memory");
    sparoa_profile_svg_text(c->job.profile, 0, 0, svg, size);
    fputs("<h2>Sparsity and intensity</h2>\n", c->file);
    fputs(svg, c->file);
    fputs("<p class=\"note\">FLOPs of one run against the share of zeros that an operator reads; "
          "the dashed lines are the thresholds of the SparOA paper (0.4 and 1e8).</p>\n",
          c->file);
    free(svg);
    return -1;
}

static void put_reasons(const report_command *c)
{
    FILE *f = c->file;
    const row *r = &c->rows[c->chosen];
    const char *names[REASONS], *texts[REASONS];
    size_t counts[REASONS] = {0}, known = 0;
    for (size_t i = 0; i < r->info.node_count; i++) {
        sparoa_plan_node_info n;
        sparoa_plan_node(r->plan, i, &n);
        size_t k = 0;
        while (k < known && strcmp(names[k], n.reason)) k++;
        if (k == REASONS) continue;
        if (k == known) {
            names[known] = n.reason;
            texts[known++] = n.reason_text;
        }
        counts[k]++;
    }
    fputs("<h2>Why they are where they are</h2>\n<table><tr><th class=\"l\">reason</th>"
          "<th>operators</th><th class=\"l\">meaning</th></tr>\n",
          f);
    for (size_t k = 0; k < known; k++) {
        fprintf(f, "<tr><td class=\"l\">%s</td><td>%zu</td><td class=\"l\">", names[k], counts[k]);
        sp_html_text(f, texts[k]);
        fputs("</td></tr>\n", f);
    }
    fputs("</table>\n", f);
}

static void put_placement(const report_command *c)
{
    FILE *f = c->file;
    const row *r = &c->rows[c->chosen];
    fputs("<h2>Placement</h2>\n<div class=\"scroll\"><table><tr><th class=\"l\">operator</th>"
          "<th class=\"l\">type</th><th class=\"l\">runs on</th><th class=\"l\">reason</th>",
          f);
    for (size_t d = 0; d < r->info.device_count; d++) {
        fputs("<th>", f);
        sp_html_text(f, r->info.device[d]);
        fputs(" us</th>", f);
    }
    fputs("<th>copies us</th><th>start us</th><th>end us</th></tr>\n", f);
    for (size_t i = 0; i < r->info.node_count; i++) {
        sparoa_plan_node_info n;
        sparoa_plan_node(r->plan, i, &n);
        fputs("<tr><td class=\"l n\" title=\"", f);
        sp_html_text(f, n.name);
        fputs("\">", f);
        sp_html_text(f, n.name);
        fputs("</td><td class=\"l\">", f);
        sp_html_text(f, n.op);
        fprintf(f, "</td><td class=\"l\"><span class=\"dot\" style=\"background:%s\"></span>",
                sp_html_device(device_of(&r->info, n.device)));
        sp_html_text(f, n.device);
        if (n.split_device)
            fprintf(f, ", %.0f %% of its %s on %s", 100 * n.split_share, n.split_axis,
                    n.split_device);
        fprintf(f, "</td><td class=\"l\" title=\"%s\">%s</td>", n.reason_text, n.reason);
        for (size_t d = 0; d < r->info.device_count; d++)
            if (n.time_ns[d] < 0)
                fputs("<td>-</td>", f);
            else
                fprintf(f, "<td>%.1f</td>", n.time_ns[d] * 1e-3);
        fprintf(f, "<td>%.1f</td><td>%.1f</td><td>%.1f</td></tr>\n", n.transfer_ns * 1e-3,
                n.start_ns * 1e-3, n.finish_ns * 1e-3);
    }
    fputs("</table></div>\n", f);
}

static int write_page(report_command *c)
{
    c->file = fopen(c->output, "w");
    if (!c->file)
        return sp_cli_fail(c->job.cli, SP_EXIT_FAIL, "cannot write %s: %s", c->output,
                           strerror(errno));
    sp_html_begin(c->file, c->job.job.path);
    put_head(c);
    put_policies(c);
    put_timeline(c);
    int code = put_quadrants(c);
    put_reasons(c);
    put_placement(c);
    fprintf(c->file, "<p class=\"note\">sparoa %s</p>\n", sparoa_version());
    sp_html_end(c->file);
    bool good = !ferror(c->file);
    if (fclose(c->file) || !good)
        return sp_cli_fail(c->job.cli, SP_EXIT_FAIL, "writing %s failed", c->output);
    return code;
}

static int run(report_command *c)
{
    int code = sp_plan_job_open(&c->job);
    const char *policy;
    bool there = false;
    for (size_t i = 0; code < 0 && (policy = sparoa_policy_name(i, NULL)); i++)
        there |= strcmp(policy, c->policy) == 0;
    if (code < 0 && !there)
        code = sp_cli_fail(c->job.cli, SP_EXIT_USAGE, "there is no policy '%s'", c->policy);
    for (size_t i = 0; code < 0 && i < POLICIES && (policy = sparoa_policy_name(i, NULL)); i++)
        code = run_policy(c, policy);
    if (code < 0) code = write_page(c);
    if (code < 0 && !c->job.cli->quiet)
        printf("%s: %s, simulated on %s\n", c->output, c->job.job.path,
               sparoa_platform_name(c->job.platform));
    return code < 0 ? SP_EXIT_PASS : code;
}

int sp_cmd_report(sp_cli *cli, int argc, char **argv)
{
    report_command c = {
        .job = {.cli = cli}, .output = "report.html", .policy = "portfolio", .runs = 100};
    sp_arg rows[SP_PLAN_JOB_ROWS];
    sp_plan_job_args(&c.job, rows);
    const sp_arg table[] = {
        {SP_ARG_STRING, 'o', "output", &c.output, "FILE", "the page (default: report.html)", 0, 0,
         NULL},
        {SP_ARG_STRING, 0, "policy", &c.policy, "NAME", "whose plan is shown (default: portfolio)",
         0, 0, NULL},
        {SP_ARG_INT, 'n', "runs", &c.runs, "N", "simulated inferences (default: 100)", 1, 1000000,
         NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, rows, table, argc, argv);
    if (code < 0) code = run(&c);
    for (size_t i = 0; i < c.count; i++) sparoa_plan_destroy(c.rows[i].plan);
    sp_plan_job_close(&c.job);
    return code;
}
