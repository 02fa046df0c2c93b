#include "base/rng.h"

#include <math.h>

#define GOLDEN 0x9e3779b97f4a7c15u /* 2^64 / golden ratio: the increment of splitmix64 */

/* The output function of splitmix64 (Steele, Lea, Flood 2014): a bijection that passes for random.
 */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t sp_rng_stream(uint64_t key, uint64_t number)
{
    return mix(mix(key + GOLDEN) ^ (number + 1) * GOLDEN);
}

uint64_t sp_rng_text(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return mix(h);
}

uint64_t sp_rng_bits(uint64_t key, uint64_t i)
{
    return mix(mix(key + i * GOLDEN) +
               key); /* mixed twice: streams of related keys must not overlap */
}

double sp_rng_uniform(uint64_t key, uint64_t i)
{
    return (double)(sp_rng_bits(key, i) >> 11) * 0x1p-53;
}

double sp_rng_normal(uint64_t key, uint64_t i)
{
    double u = 1 - sp_rng_uniform(key, 2 * i), v = sp_rng_uniform(key, 2 * i + 1); /* u in (0, 1] */
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
