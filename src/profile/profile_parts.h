/* profile_parts.h - what the forms of a profile file share. */
#ifndef SP_PROFILE_PROFILE_PARTS_H
#define SP_PROFILE_PROFILE_PARTS_H

#include "profile/profile.h"

#define SP_PROFILE_FORMAT "sparoa-profile"
#define SP_PROFILE_VERSION 1

/* X(field, member, least): numbers of a node in the order of files. */
#define SP_NODE_FIELDS(X)                                                                          \
    X(flops, cost.flops, 0)                                                                        \
    X(bytes_in, cost.bytes_in, 0)                                                                  \
    X(bytes_w, cost.bytes_w, 0)                                                                    \
    X(bytes_out, cost.bytes_out, 0)                                                                \
    X(weight_zeros, weight_zeros, -1)                                                              \
    X(input_zeros, input_zeros, -1)                                                                \
    X(output_zeros, output_zeros, -1)                                                              \
    X(batch, batch, 0)                                                                             \
    X(channels, channels, 0)                                                                       \
    X(height, height, 0)                                                                           \
    X(width, width, 0)                                                                             \
    X(in_channels, in_channels, 0)                                                                 \
    X(kernel, kernel, 0)                                                                           \
    X(stride, stride, 0)                                                                           \
    X(groups, groups, 0)

/* {name: ..., bytes: ...}; q: the quote of keys, or nothing. */
void sp_profile_put_value(sp_text *t, const sp_profile_value *v, const char *q);

/* Whether a file is a table of nodes, and the same as JSON: what is on a line of the table is on
 * that line of it, the rest behind. Fails with MALFORMED where it is no table that can be read. */
bool sp_profile_is_csv(const void *data, size_t size);
sparoa_status sp_profile_csv_to_json(const char *what, const char *data, size_t size, sp_text *json,
                                     sparoa_error *err);

#endif
