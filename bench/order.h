/* order.h - for qsort: doubles from the smallest on. */
#ifndef BENCH_ORDER_H
#define BENCH_ORDER_H

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#endif
