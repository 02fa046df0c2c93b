#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void sp_log_line(const sp_log *log, sparoa_log_level level, const char *format, ...)
{
    if (!log->fn || level > log->level) return;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log->fn(log->user, level, line);
}
