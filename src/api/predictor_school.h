/* predictor_school.h - what training and judging predictors need: options read, files loaded. */
#ifndef SP_API_PREDICTOR_SCHOOL_H
#define SP_API_PREDICTOR_SCHOOL_H

#include "api/schedule_objects.h"
#include "predict/study.h"

typedef struct sp_school {
    sparoa_runtime *runtime;
    sparoa_training_options o;
    sp_predict_net net;
    sp_predict_corpus corpus;
    sp_study study; /* once made */
} sp_school;

/* Checks and loads; close it in any case. */
sparoa_status sp_school_open(sp_school *school, sparoa_runtime *runtime,
                             const sparoa_training_options *options, sparoa_error *err);
sparoa_status sp_school_study(sp_school *school, sparoa_error *err);
sparoa_status sp_school_train(sp_school *school, sp_predict_net net, bool blind,
                              sp_predictor **made, sparoa_error *err);
void sp_school_close(sp_school *school);

#endif
