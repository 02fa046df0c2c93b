/*
 * rng.h - random numbers from a counter: number i of the stream `key` is a function of (key, i)
 * alone, so that threads can draw any part of a stream without sharing state, and streams are the
 * same on every machine.
 */
#ifndef SP_BASE_RNG_H
#define SP_BASE_RNG_H

#include <stdint.h>

/* Another stream, made from a stream and a number (a seed, the count of a run). */
uint64_t sp_rng_stream(uint64_t key, uint64_t number);
/* The stream of a text, FNV-1a of it. */
uint64_t sp_rng_text(const char *text);

/* 64 random bits. */
uint64_t sp_rng_bits(uint64_t key, uint64_t i);
/* Uniform in [0, 1), 53 bits. */
double sp_rng_uniform(uint64_t key, uint64_t i);
/* Normal, mean 0 and variance 1 (Box-Muller; uses the bits 2i and 2i+1). */
double sp_rng_normal(uint64_t key, uint64_t i);

#endif
