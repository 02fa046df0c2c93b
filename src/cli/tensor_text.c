#include "cli/tensor_text.h"

void sp_shape_json(sp_json *j, const char *key, const sparoa_tensor *tensor,
                   const char *const *names)
{
    if (tensor->rank < 0) {
        sp_json_null(j, key);
        return;
    }
    sp_json_flat_array(j, key);
    for (int i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] >= 0)
            sp_json_int(j, NULL, tensor->dims[i]);
        else
            sp_json_string(j, NULL, names ? names[i] : NULL);
    }
    sp_json_end_array(j);
}

void sp_tensor_json_begin(sp_json *j, const char *name, const sparoa_tensor *tensor)
{
    sp_json_object(j, NULL);
    sp_json_string(j, "name", name);
    sp_json_string(j, "dtype", sparoa_dtype_name(tensor->dtype));
    sp_shape_json(j, "shape", tensor, NULL);
}

void sp_values_json(sp_json *j, const sparoa_tensor *tensor, int64_t first)
{
    sp_value_range r = sp_value_summary(tensor);
    sp_json_number(j, "min", r.min);
    sp_json_number(j, "max", r.max);
    sp_json_number(j, "mean", r.mean);
    sp_json_int(j, "nans", r.nans);
    sp_json_int(j, "infs", r.infs);
    sp_json_int(j, "zeros", r.zeros);
    sp_json_flat_array(j, "first");
    for (int64_t i = 0; i < first && i < sparoa_tensor_count(tensor); i++)
        sp_json_number(j, NULL, sp_value_get(tensor, i));
    sp_json_end_array(j);
}

void sp_values_text(const sparoa_tensor *tensor, int64_t first)
{
    int64_t count = sparoa_tensor_count(tensor);
    sp_value_range r = sp_value_summary(tensor);
    printf("min %.6g  max %.6g  mean %.6g", r.min, r.max, r.mean);
    if (r.nans) printf("  %lld NaN", (long long)r.nans);
    if (r.infs) printf("  %lld infinite", (long long)r.infs);
    printf("\n    [");
    for (int64_t i = 0; i < first && i < count; i++)
        printf(i ? " %.6g" : "%.6g", sp_value_get(tensor, i));
    printf(count > first ? " ...]\n" : "]\n");
}
