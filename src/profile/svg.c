/* The quadrants of a profile as a picture. */
#include <math.h>

#include "ops/op.h"
#include "profile/profile.h"

enum { LEFT = 64, TOP = 34, WIDTH = 620, HEIGHT = 330, RIGHT = 170, BOTTOM = 50 };
#define LOW 2.0 /* log10 of FLOPs at the left edge: what has fewer is drawn there */

static const char *const colours[SPAROA_CLASS_COUNT] = {"#59a14f", "#9c755f", "#4e79a7", "#e15759",
                                                        "#76b7b2", "#edc948", "#b07aa1", "#ff9da7",
                                                        "#bab0ac", "#d7d7d7", "#333333", "#888888"};

/* Text of XML. */
static void put_xml(sp_text *t, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '<')
            sp_text_add(t, "&lt;");
        else if (*c == '&')
            sp_text_add(t, "&amp;");
        else if (*c == '"')
            sp_text_add(t, "&quot;");
        else if ((unsigned char)*c >= 0x20)
            sp_text_add(t, "%c", *c);
    }
}

static double x_of(double flops, double high)
{
    double l = flops > 0 ? log10(flops) : LOW;
    l = l < LOW ? LOW : l > high ? high : l;
    return LEFT + (l - LOW) / (high - LOW) * WIDTH;
}

static double y_of(double zeros)
{
    return TOP + (1 - zeros) * HEIGHT;
}

static void put_point(sp_text *t, double v)
{
    sp_text_add(t, "%d.%d", (int)v, (int)(v * 10) % 10); /* whatever the locale's decimal mark */
}

static void put_line(sp_text *t, double x1, double y1, double x2, double y2, const char *style)
{
    sp_text_add(t, "<path d=\"M");
    put_point(t, x1);
    sp_text_add(t, " ");
    put_point(t, y1);
    sp_text_add(t, "L");
    put_point(t, x2);
    sp_text_add(t, " ");
    put_point(t, y2);
    sp_text_add(t, "\" %s/>\n", style);
}

static void put_label(sp_text *t, double x, double y, const char *anchor, const char *text)
{
    sp_text_add(t, "<text x=\"");
    put_point(t, x);
    sp_text_add(t, "\" y=\"");
    put_point(t, y);
    sp_text_add(t, "\" text-anchor=\"%s\">", anchor);
    put_xml(t, text);
    sp_text_add(t, "</text>\n");
}

static void put_axes(sp_text *t, double high, const sp_thresholds *at)
{
    const char *grid = "stroke=\"#e4e4e4\"", *limit = "stroke=\"#555\" stroke-dasharray=\"5 4\"";
    char text[64];
    for (int e = (int)LOW; e <= (int)high; e++) {
        double x = x_of(pow(10, e), high);
        put_line(t, x, TOP, x, TOP + HEIGHT, grid);
        snprintf(text, sizeof text, e == (int)LOW ? "<= 1e%d" : "1e%d", e);
        put_label(t, x, TOP + HEIGHT + 16, "middle", text);
    }
    for (int z = 0; z <= 10; z += 2) {
        put_line(t, LEFT, y_of(z * 0.1), LEFT + WIDTH, y_of(z * 0.1), grid);
        snprintf(text, sizeof text, "%d %%", z * 10);
        put_label(t, LEFT - 8, y_of(z * 0.1) + 4, "end", text);
    }
    put_line(t, x_of(at->flops, high), TOP, x_of(at->flops, high), TOP + HEIGHT, limit);
    put_line(t, LEFT, y_of(at->sparsity), LEFT + WIDTH, y_of(at->sparsity), limit);
    put_label(t, LEFT + WIDTH / 2.0, TOP + HEIGHT + 38, "middle", "FLOPs of one run (log)");
    put_label(t, LEFT, TOP - 10, "start", "zeros in inputs or weights");
    put_label(t, LEFT + 6, TOP + 16, "start", sp_quadrant_name(SP_SPARSE_LIGHT));
    put_label(t, LEFT + WIDTH - 6, TOP + 16, "end", sp_quadrant_name(SP_SPARSE_HEAVY));
    put_label(t, LEFT + 6, TOP + HEIGHT - 8, "start", sp_quadrant_name(SP_DENSE_LIGHT));
    put_label(t, LEFT + WIDTH - 6, TOP + HEIGHT - 8, "end", sp_quadrant_name(SP_DENSE_HEAVY));
}

static void put_node(sp_text *t, const sp_profile *p, const sp_profile_node *n, double high)
{
    double longest = 0;
    for (uint32_t d = 0; d < p->device_count; d++)
        longest = n->measured_ns[d] > longest ? n->measured_ns[d] : longest;
    sp_text_add(t, "<circle cx=\"");
    put_point(t, x_of(n->cost.flops, high));
    sp_text_add(t, "\" cy=\"");
    put_point(t, y_of(sp_node_sparsity(n)));
    sp_text_add(t, "\" r=\"");
    put_point(t, longest > 0 ? fmin(12, 2.5 + sqrt(longest * 1e-3) / 4) : 4);
    sp_text_add(t, "\" fill=\"%s\"><title>", colours[n->op_class]);
    put_xml(t, n->name);
    sp_text_add(t, " (");
    put_xml(t, n->op);
    sp_text_add(t, "): %.4g MFLOP, %.3g FLOP/byte, %.1f %% zeros", n->cost.flops * 1e-6,
                sp_flops_per_byte(n), 100 * sp_node_sparsity(n));
    for (uint32_t d = 0; d < p->device_count; d++)
        if (n->measured_ns[d] > 0) {
            sp_text_add(t, ", ");
            put_xml(t, p->devices[d]);
            sp_text_add(t, " %.4g us", n->measured_ns[d] * 1e-3);
        }
    sp_text_add(t, "</title></circle>\n");
}

static void put_legend(sp_text *t, const sp_profile *p, const sp_thresholds *at)
{
    uint32_t classes[SPAROA_CLASS_COUNT] = {0}, quadrants[4] = {0};
    double y = TOP + 10;
    char text[64];
    for (uint32_t i = 0; i < p->node_count; i++) {
        classes[p->nodes[i].op_class]++;
        quadrants[sp_quadrant_of(&p->nodes[i], at)]++;
    }
    for (int c = 0; c < SPAROA_CLASS_COUNT; c++) {
        if (!classes[c]) continue;
        sp_text_add(t, "<circle cx=\"%d\" cy=\"%d\" r=\"5\" fill=\"%s\"/>\n", LEFT + WIDTH + 18,
                    (int)y - 4, colours[c]);
        snprintf(text, sizeof text, "%s (%u)", sp_class_name((sparoa_op_class)c), classes[c]);
        put_label(t, LEFT + WIDTH + 30, y, "start", text);
        y += 18;
    }
    for (int q = 0; q < 4; q++) {
        snprintf(text, sizeof text, "%s: %u", sp_quadrant_name((sp_quadrant)q), quadrants[q]);
        put_label(t, LEFT + WIDTH + 13, y + 14, "start", text);
        y += 18;
    }
}

void sp_profile_svg(const sp_profile *p, const sp_thresholds *thresholds, sp_text *t)
{
    const sp_thresholds rule = {SP_RULE_SPARSITY, SP_RULE_FLOPS},
                        *at = thresholds ? thresholds : &rule;
    double high = 9;
    for (uint32_t i = 0; i < p->node_count; i++)
        if (p->nodes[i].cost.flops > 0) high = fmax(high, ceil(log10(p->nodes[i].cost.flops)));
    sp_text_add(t,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n<title>",
                LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM, LEFT + WIDTH + RIGHT);
    put_xml(t, p->model);
    sp_text_add(t, ", %s regime</title>\n", sp_regime_name(p->regime));
    put_axes(t, high, at);
    sp_text_add(t, "<g fill-opacity=\"0.75\" stroke=\"#fff\" stroke-width=\"0.6\">\n");
    for (uint32_t i = 0; i < p->node_count; i++) put_node(t, p, &p->nodes[i], high);
    sp_text_add(t, "</g>\n");
    put_legend(t, p, at);
    sp_text_add(t, "</svg>\n");
}
