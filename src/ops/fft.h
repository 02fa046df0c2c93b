/*
 * fft.h - the fast Fourier transform of complex doubles, any length: mixed radix for lengths
 * without a large prime factor, Bluestein's chirp otherwise. No allocation: the caller gives the
 * memory.
 */
#ifndef SP_OPS_FFT_H
#define SP_OPS_FFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SP_FFT_MAX ((int64_t)1 << 32) /* longest transform */

typedef struct sp_fft {
    int64_t n;
    int64_t m;             /* length of the inner power of two for Bluestein; 0: mixed radix */
    const double *twiddle; /* exp(-2 pi i k / N), N = m or n */
    const double *chirp;   /* exp(-pi i k^2 / n), k < n */
    const double *kernel;  /* transform of the conjugate chirp, m values over m */
} sp_fft;

/* Doubles that a plan's tables take, and that one run's scratch takes. 1 <= n <= SP_FFT_MAX. */
int64_t sp_fft_table_count(int64_t n);
int64_t sp_fft_scratch_count(int64_t n);
/* Fills the tables; scratch is used during the call only. */
void sp_fft_init(sp_fft *plan, int64_t n, double *tables, double *scratch);
/* data: n complex numbers (re, im), transformed in place; inverse: without the factor 1/n. Threads
 * may share a plan, each with its own scratch. */
void sp_fft_run(const sp_fft *plan, double *data, double *scratch, bool inverse);

#endif
