#include "base/knobs.h"

#include <stdlib.h>

sp_knobs sp_knobs_read(void)
{
    sp_knobs k;
#define X(field, variable, meaning) k.field = getenv(variable);
    SP_KNOB_MAP(X)
#undef X
    return k;
}
