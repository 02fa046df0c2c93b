#include "cli/value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool sp_value_is_float(sparoa_dtype dtype)
{
    return dtype == SPAROA_FLOAT32 || dtype == SPAROA_FLOAT64 || dtype == SPAROA_FLOAT16 ||
           dtype == SPAROA_BFLOAT16;
}

double sp_half_to_double(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value;
    if (exponent == 31)
        value = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(fraction + 1024, exponent - 25);
    return bits & 0x8000 ? -value : value;
}

double sp_bfloat_to_double(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static uint16_t double_to_half(double value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double size = fabs(value);
    if (isnan(value)) return sign | 0x7e00;
    if (size >= 65520) return sign | 0x7c00;
    if (size < ldexp(1, -14)) return sign | (uint16_t)nearbyint(ldexp(size, 24));
    int exponent;
    double fraction = nearbyint(ldexp(frexp(size, &exponent), 11)); /* 1024..2048 */
    return sign | (uint16_t)((exponent + 14) * 1024 + (int)fraction - 1024);
}

static uint16_t double_to_bfloat(double value)
{
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double sp_value_get(const sparoa_tensor *tensor, int64_t index)
{
    switch (tensor->dtype) {
    case SPAROA_FLOAT32: return ((const float *)tensor->data)[index];
    case SPAROA_FLOAT64: return ((const double *)tensor->data)[index];
    case SPAROA_FLOAT16: return sp_half_to_double(((const uint16_t *)tensor->data)[index]);
    case SPAROA_BFLOAT16: return sp_bfloat_to_double(((const uint16_t *)tensor->data)[index]);
    case SPAROA_UINT8:
    case SPAROA_BOOL: return ((const uint8_t *)tensor->data)[index];
    case SPAROA_INT8: return ((const int8_t *)tensor->data)[index];
    case SPAROA_UINT16: return ((const uint16_t *)tensor->data)[index];
    case SPAROA_INT16: return ((const int16_t *)tensor->data)[index];
    case SPAROA_UINT32: return ((const uint32_t *)tensor->data)[index];
    case SPAROA_INT32: return ((const int32_t *)tensor->data)[index];
    case SPAROA_UINT64: return (double)((const uint64_t *)tensor->data)[index];
    case SPAROA_INT64: return (double)((const int64_t *)tensor->data)[index];
    default: return NAN;
    }
}

static double clamp(double value, double low, double high)
{
    if (isnan(value)) return 0;
    value = nearbyint(value);
    return value < low ? low : value > high ? high : value;
}

void sp_value_set(sparoa_tensor *tensor, int64_t i, double value)
{
    void *data = tensor->data;
    switch (tensor->dtype) {
    case SPAROA_FLOAT32: ((float *)data)[i] = (float)value; break;
    case SPAROA_FLOAT64: ((double *)data)[i] = value; break;
    case SPAROA_FLOAT16: ((uint16_t *)data)[i] = double_to_half(value); break;
    case SPAROA_BFLOAT16: ((uint16_t *)data)[i] = double_to_bfloat(value); break;
    case SPAROA_BOOL: ((uint8_t *)data)[i] = value != 0; break;
    case SPAROA_UINT8: ((uint8_t *)data)[i] = (uint8_t)clamp(value, 0, 255); break;
    case SPAROA_INT8: ((int8_t *)data)[i] = (int8_t)clamp(value, -128, 127); break;
    case SPAROA_UINT16: ((uint16_t *)data)[i] = (uint16_t)clamp(value, 0, 65535); break;
    case SPAROA_INT16: ((int16_t *)data)[i] = (int16_t)clamp(value, -32768, 32767); break;
    case SPAROA_UINT32: ((uint32_t *)data)[i] = (uint32_t)clamp(value, 0, 4294967295.0); break;
    case SPAROA_INT32:
        ((int32_t *)data)[i] = (int32_t)clamp(value, -2147483648.0, 2147483647.0);
        break;
    case SPAROA_UINT64:
        ((uint64_t *)data)[i] = (uint64_t)clamp(value, 0, 18446744073709549568.0);
        break;
    case SPAROA_INT64:
        ((int64_t *)data)[i] = (int64_t)clamp(value, -9223372036854775808.0, 9223372036854774784.0);
        break;
    default: break;
    }
}

sp_value_range sp_value_summary(const sparoa_tensor *tensor)
{
    sp_value_range r = {.min = NAN, .max = NAN, .mean = NAN};
    int64_t count = sparoa_tensor_count(tensor), finite = 0;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double v = sp_value_get(tensor, i);
        if (isnan(v)) {
            r.nans++;
        } else if (isinf(v)) {
            r.infs++;
        } else {
            if (!finite || v < r.min) r.min = v;
            if (!finite || v > r.max) r.max = v;
            if (v == 0) r.zeros++;
            sum += v;
            finite++;
        }
    }
    if (finite) r.mean = sum / (double)finite;
    return r;
}

const char *sp_shape_text(char *text, size_t size, const sparoa_tensor *tensor,
                          const char *const *names)
{
    size_t at = (size_t)snprintf(text, size, "%s", sparoa_dtype_name(tensor->dtype));
    if (tensor->rank < 0) {
        if (at < size) snprintf(text + at, size - at, "[...]");
        return text;
    }
    for (int i = 0; i < tensor->rank && at < size; i++) {
        char dim[64];
        if (tensor->dims[i] >= 0)
            snprintf(dim, sizeof dim, "%lld", (long long)tensor->dims[i]);
        else
            snprintf(dim, sizeof dim, "%s", names && names[i] ? names[i] : "?");
        at += (size_t)snprintf(text + at, size - at, "%c%s", i ? ',' : '[', dim);
    }
    if (at < size) snprintf(text + at, size - at, tensor->rank ? "]" : "[]");
    return text;
}
