/* shipped.h - the weights that the library carries along (models/predictor/predictor.spw). */
#ifndef SP_PREDICT_SHIPPED_H
#define SP_PREDICT_SHIPPED_H

#include "predict/predictor.h"

extern const unsigned char sp_predict_shipped[]; /* a .spw file */
extern const size_t sp_predict_shipped_size;

/* A predictor with these weights, of the caller's own: one thread at a time runs it. */
sparoa_status sp_predictor_shipped(const sparoa_allocator *alloc, sp_predictor **made,
                                   sparoa_error *err);

#endif
