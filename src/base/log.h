/* log.h - lines to the caller's log function; nothing is formatted unless somebody listens. */
#ifndef SP_BASE_LOG_H
#define SP_BASE_LOG_H

#include "sparoa.h"

typedef struct sp_log {
    sparoa_log_fn fn;
    void *user;
    sparoa_log_level level;
} sp_log;

void sp_log_line(const sp_log *log, sparoa_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
