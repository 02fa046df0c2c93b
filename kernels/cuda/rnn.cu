/* RNN, GRU and LSTM after the product with the inputs: for each step the product of the state with
 * the recurrent weights and the cell's formulas, a warp for each hidden unit. Small networks go
 * through all steps in one block for each sequence and direction; larger ones are spread over the
 * GPU, a launch for each step. */
#include "kernels/cuda/common.cuh"

#define ALONE 192 /* hidden units up to which one block takes all steps */
#define UNITS 32  /* hidden units of a block else */

/* Parts of the state, each [dir][batch][hidden]: h before and after a step, c, update gate, reset
 * state. */
enum { H0, H1, CELL, UPDATE, RESET, PARTS };

static __device__ float activated(const sp_cu_rnn &r, int dir, int i, float v)
{
    const float a = r.a[dir][i], b = r.b[dir][i];
    switch (r.act[dir][i]) {
    case 0: return v > 0 ? v : 0.0f;
    case 1: return tanhf(v);
    case 2: return 1 / (1 + expf(-v));
    case 3: return a * v + b;
    case 4: return v >= 0 ? v : a * v;
    case 5: return v >= a ? v : 0.0f;
    case 6: return a * tanhf(b * v);
    case 7: v = a * v + b; return v < 0 ? 0.0f : (v > 1 ? 1.0f : v);
    case 8: return v >= 0 ? v : a * expm1f(v);
    case 9: return v / (1 + fabsf(v));
    default: return v > 0 ? v + log1pf(expf(-v)) : log1pf(expf(v));
    }
}

static __device__ float gate(const sp_cu_rnn &r, int dir, int i, float v)
{
    v = v > r.clip ? r.clip : (v < -r.clip ? -r.clip : v);
    return activated(r, dir, i, v);
}

/* What a warp works on. */
typedef struct cell {
    int dir, b, j;
    int64_t at;     /* of the unit in a part of the state */
    const float *x; /* projected input of gate 0 */
    const float *h; /* state of the sequence before the step */
    float *parts[PARTS];
} cell;

static __device__ float *part(const sp_cu_rnn &r, int which)
{
    return r.state + (int64_t)which * r.dirs * r.batch * r.hidden;
}

/* Row j of gate g times a vector, the same in every lane. */
static __device__ float dot(const sp_cu_rnn &r, int dir, int g, int j, const float *v)
{
    const int n = r.hidden;
    const float *row = r.r + (((int64_t)dir * r.gates + g) * n + j) * n;
    float sum = 0;
    for (int i = (int)threadIdx.x % 32; i < n; i += 32) sum += row[i] * v[i];
    return sp_cu_warp_sum(sum);
}

/* Bias of the input's (recurrent: the state's) product. */
static __device__ float bias(const sp_cu_rnn &r, int dir, int g, int j, int recurrent)
{
    return r.bias ? r.bias[((int64_t)dir * 2 + recurrent) * r.gates * r.hidden + g * r.hidden + j]
                  : 0.0f;
}

static __device__ float input(const sp_cu_rnn &r, const cell &c, int g)
{
    return c.x[(int64_t)g * r.hidden + c.j] + bias(r, c.dir, g, c.j, 0);
}

static __device__ float whole(const sp_cu_rnn &r, const cell &c, int g)
{
    return input(r, c, g) + bias(r, c.dir, g, c.j, 1) + dot(r, c.dir, g, c.j, c.h);
}

static __device__ float lstm(const sp_cu_rnn &r, const cell &c)
{
    const float *p = r.peephole ? r.peephole + (int64_t)c.dir * 3 * r.hidden + c.j : NULL;
    float state = c.parts[CELL][c.at], in = whole(r, c, 0), out = whole(r, c, 1),
          forget = whole(r, c, 2), fresh = whole(r, c, 3);
    if (p) {
        in += p[0] * state;
        forget += p[2 * r.hidden] * state;
    }
    in = gate(r, c.dir, 0, in);
    forget = r.input_forget ? 1 - in : gate(r, c.dir, 0, forget);
    fresh = gate(r, c.dir, 1, fresh);
    state = forget * state + in * fresh;
    if (p) out += p[r.hidden] * state;
    out = gate(r, c.dir, 0, out);
    __syncwarp();
    if (threadIdx.x % 32 == 0) c.parts[CELL][c.at] = state;
    return out * activated(r, c.dir, 2, state); /* the cell state itself is not clipped */
}

static __device__ float gru(const sp_cu_rnn &r, const cell &c)
{
    float update = gate(r, c.dir, 0, whole(r, c, 0)), reset = gate(r, c.dir, 0, whole(r, c, 1));
    float hidden = dot(r, c.dir, 2, c.j, c.h) + bias(r, c.dir, 2, c.j, 1);
    hidden = gate(r, c.dir, 1, input(r, c, 2) + reset * hidden);
    return (1 - update) * hidden + update * c.h[c.j];
}

/* The reset state of a GRU that is reset before the product. */
static __device__ void gru_first(const sp_cu_rnn &r, const cell &c)
{
    float update = gate(r, c.dir, 0, whole(r, c, 0)), reset = gate(r, c.dir, 0, whole(r, c, 1));
    if (threadIdx.x % 32) return;
    c.parts[UPDATE][c.at] = update;
    c.parts[RESET][c.at] = reset * c.h[c.j];
}

static __device__ float gru_second(const sp_cu_rnn &r, const cell &c)
{
    const float *reset = c.parts[RESET] + c.at - c.j;
    float hidden = gate(r, c.dir, 1,
                        input(r, c, 2) + bias(r, c.dir, 2, c.j, 1) + dot(r, c.dir, 2, c.j, reset));
    float update = c.parts[UPDATE][c.at];
    return (1 - update) * hidden + update * c.h[c.j];
}

static __device__ int length_of(const sp_cu_rnn &r, int b)
{
    int n = r.lengths ? r.lengths[b] : r.steps;
    if (n < 0 || n > r.steps) {
        *r.fault = 1;
        n = n < 0 ? 0 : r.steps;
    }
    return n;
}

/* Steps first..last-1 of a sequence. blockIdx: units, sequence, direction. */
static __global__ void __launch_bounds__(1024)
    step_kernel(sp_cu_rnn r, int first, int last, int units)
{
    const int warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    const int from = blockIdx.x * units, to = min(from + units, r.hidden);
    const int length = length_of(r, blockIdx.y);
    cell c = {(int)blockIdx.z, (int)blockIdx.y, 0, 0, NULL, NULL, {}};
    const int64_t base = ((int64_t)c.dir * r.batch + c.b) * r.hidden;
    const bool backwards = c.dir == 1 || r.reverse, two = r.gates == 3 && !r.linear_before_reset;
    for (int k = first; k < last; k++) {
        const int t = k >= length ? k : (backwards ? length - 1 - k : k);
        const int64_t row = r.batch_first ? (int64_t)c.b * r.steps + t : (int64_t)t * r.batch + c.b;
        for (int i = 0; i < PARTS; i++) c.parts[i] = part(r, i);
        if (k & 1) {
            float *swap = c.parts[H0];
            c.parts[H0] = c.parts[H1];
            c.parts[H1] = swap;
        }
        c.h = c.parts[H0] + base;
        c.x = r.projected + ((int64_t)c.dir * r.steps * r.batch + row) * r.gates * r.hidden;
        if (two && k < length) {
            for (c.j = from + warp; c.j < to; c.j += warps) {
                c.at = base + c.j;
                gru_first(r, c);
            }
            __syncthreads();
        }
        for (c.j = from + warp; c.j < to; c.j += warps) {
            float h, y;
            c.at = base + c.j;
            if (k >= length) {
                h = c.h[c.j]; /* past the end: the state stays, the padding of Y is zero */
                y = 0;
            } else if (r.gates == 4) {
                y = h = lstm(r, c);
            } else if (two) {
                y = h = gru_second(r, c);
            } else if (r.gates == 3) {
                y = h = gru(r, c);
            } else {
                y = h = gate(r, c.dir, 0, whole(r, c, 0));
            }
            if (threadIdx.x % 32) continue;
            c.parts[H1][c.at] = h;
            int64_t out = r.batch_first ? row * r.dirs + c.dir
                                        : ((int64_t)t * r.dirs + c.dir) * r.batch + c.b;
            if (r.y) r.y[out * r.hidden + c.j] = y;
        }
        __syncthreads();
    }
}

/* Copies a part of the state from or to its tensor; without one it becomes zero. */
static __global__ void state_kernel(sp_cu_rnn r, int which, const float *load, float *save)
{
    const int64_t n = (int64_t)r.dirs * r.batch * r.hidden;
    float *state = part(r, which);
    SP_CU_FOR(i, n)
    {
        int64_t row = i / r.hidden, dir = row / r.batch, b = row % r.batch;
        int64_t at = (r.batch_first ? b * r.dirs + dir : row) * r.hidden + i % r.hidden;
        if (save)
            save[at] = state[i];
        else
            state[i] = load ? load[at] : 0.0f;
    }
}

size_t sp_cu_rnn_state(const sp_cu_rnn *r)
{
    return (size_t)PARTS * (size_t)r->dirs * (size_t)r->batch * (size_t)r->hidden * sizeof(float);
}

static void copy_state(const sp_cu_rnn *r, int which, const float *load, float *save,
                       cudaStream_t stream)
{
    int64_t n = (int64_t)r->dirs * r->batch * r->hidden;
    state_kernel<<<sp_cu_blocks(n, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(*r, which, load,
                                                                               save);
}

void sp_cu_rnn_run(const sp_cu_rnn *r, cudaStream_t stream)
{
    bool two = r->gates == 3 && !r->linear_before_reset;
    dim3 grid(1, (unsigned)r->batch, (unsigned)r->dirs);
    if (r->batch < 1 || r->hidden < 1) return;
    copy_state(r, H0, r->h0, NULL, stream);
    if (r->gates == 4) copy_state(r, CELL, r->c0, NULL, stream);
    if (two || r->hidden <= ALONE) {
        if (r->steps > 0) step_kernel<<<grid, 1024, 0, stream>>>(*r, 0, r->steps, r->hidden);
    } else {
        grid.x = (unsigned)((r->hidden + UNITS - 1) / UNITS);
        for (int k = 0; k < r->steps; k++)
            step_kernel<<<grid, 256, 0, stream>>>(*r, k, k + 1, UNITS);
    }
    if (r->y_h) copy_state(r, r->steps & 1 ? H1 : H0, NULL, r->y_h, stream);
    if (r->y_c) copy_state(r, CELL, NULL, r->y_c, stream);
}
