/* Where Resize takes its values from: coordinates, nearest neighbours and filter weights of one
 * axis. */
#include "ops/resize.h"

/* The input coordinate of output o. Quotients of whole numbers are formed last, so that coordinates
 * that fall on an element are exact. */
static double coordinate(const sp_resize *r, const sp_resize_axis *x, int64_t o)
{
    double in = (double)x->in, out = (double)x->out, at = (double)o;
    bool whole = x->width == out; /* the scale is out / in */
    double centre = whole ? (at + 0.5) * in / out : (at + 0.5) / x->scale;
    switch (r->coord) {
    case SP_COORD_ALIGN_CORNERS: return x->width == 1.0 ? 0.0 : at * (in - 1.0) / (x->width - 1.0);
    case SP_COORD_ASYMMETRIC: return whole ? at * in / out : at / x->scale;
    case SP_COORD_TF_HALF_PIXEL_FOR_NN: return centre;
    case SP_COORD_PYTORCH_HALF_PIXEL: return x->width == 1.0 ? -0.5 : centre - 0.5;
    case SP_COORD_HALF_PIXEL_SYMMETRIC: return in / 2.0 * (1.0 - out / x->width) + centre - 0.5;
    case SP_COORD_TF_CROP_AND_RESIZE:
        if (x->width == 1.0) return 0.5 * (x->from + x->to) * (in - 1.0);
        return x->from * (in - 1.0) + at * (x->to - x->from) * (in - 1.0) / (x->width - 1.0);
    default: return centre - 0.5;
    }
}

static int64_t clamp(double v, int64_t length)
{
    if (!(v > 0)) return 0;
    return v >= (double)(length - 1) ? length - 1 : (int64_t)v;
}

static int64_t nearest(const sp_resize *r, const sp_resize_axis *x, double at)
{
    switch (r->nearest) {
    case SP_NEAREST_ROUND_PREFER_CEIL: return clamp(floor(at + 0.5), x->in);
    case SP_NEAREST_FLOOR: return clamp(floor(at), x->in);
    case SP_NEAREST_CEIL: return clamp(ceil(at), x->in);
    case SP_NEAREST_BY_DIRECTION: return clamp(x->scale < 1.0 ? ceil(at) : floor(at), x->in);
    default: return clamp(ceil(at - 0.5), x->in);
    }
}

/* The filter: a triangle or Keys' cubic. */
static double filter(const sp_resize *r, double t)
{
    double a = r->cubic_a;
    t = fabs(t);
    if (r->mode == SP_RESIZE_LINEAR) return t < 1.0 ? 1.0 - t : 0.0;
    if (t <= 1.0) return ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
    return t < 2.0 ? ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a : 0.0;
}

static double stretch(const sp_resize *r, const sp_resize_axis *x)
{
    return r->antialias && x->scale < 1.0 ? x->scale : 1.0;
}

static double support(const sp_resize *r, const sp_resize_axis *x)
{
    return (r->mode == SP_RESIZE_LINEAR ? 1.0 : 2.0) / stretch(r, x);
}

int64_t sp_resize_taps(const sp_resize *r, const sp_resize_axis *x)
{
    if (r->mode == SP_RESIZE_NEAREST) return 1;
    double taps = ceil(2.0 * support(r, x));
    return taps < (double)x->in ? (int64_t)taps : x->in;
}

/* Weights of one output. Positions outside the input count for the edge, or not at all. */
static void fill_weights(const sp_resize *r, const sp_resize_axis *x, double at, int64_t taps,
                         int64_t *start, double *weights)
{
    /* the half-open range (at - reach, at + reach] never has more whole numbers than taps */
    double reach = support(r, x), s = stretch(r, x), low = floor(at - reach) + 1.0, sum = 0;
    int64_t first = clamp(low, x->in), count = (int64_t)(floor(at + reach) - low) + 1;
    if (first > x->in - taps) first = x->in - taps;
    for (int64_t t = 0; t < taps; t++) weights[t] = 0;
    for (int64_t i = 0; i < count; i++) {
        double position = low + (double)i, w = filter(r, (position - at) * s);
        bool outside = position < 0 || position > (double)(x->in - 1);
        if (outside && r->exclude_outside) continue;
        int64_t to = clamp(position, x->in) - first;
        if (to >= 0 && to < taps) weights[to] += w;
        sum += w;
    }
    bool normalise = (r->antialias || r->exclude_outside) && sum != 0;
    for (int64_t t = 0; normalise && t < taps; t++) weights[t] /= sum;
    *start = first;
}

void sp_resize_table(const sp_resize *r, const sp_resize_axis *x, int64_t *start, double *weights)
{
    int64_t taps = sp_resize_taps(r, x);
    for (int64_t o = 0; o < x->out; o++) {
        double at = coordinate(r, x, o), reach = support(r, x);
        bool crop = r->coord == SP_COORD_TF_CROP_AND_RESIZE;
        /* scales and regions are float32: what they put a hair beside an element is meant to be on
         * it */
        if (crop || r->mode == SP_RESIZE_NEAREST) at = (float)at;
        if (crop && !(at >= 0 && at <= (double)(x->in - 1))) {
            start[o] = -1;
            for (int64_t t = 0; weights && t < taps; t++) weights[o * taps + t] = 0;
        } else if (r->mode == SP_RESIZE_NEAREST) {
            start[o] = nearest(r, x, at);
        } else {
            /* far outside only the edge counts; keeps the range of positions small */
            if (!(at > -1.0 - reach)) at = -1.0 - reach;
            if (at > (double)x->in + reach) at = (double)x->in + reach;
            fill_weights(r, x, at, taps, &start[o], weights + o * taps);
        }
    }
}
