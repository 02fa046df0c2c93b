#include "sparoa.h"

const char *sparoa_version(void)
{
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
    return TEXT(SPAROA_VERSION_MAJOR) "." TEXT(SPAROA_VERSION_MINOR) "." TEXT(SPAROA_VERSION_PATCH);
}

const char *sparoa_status_name(sparoa_status status)
{
    switch (status) {
#define X(name, value, text)                                                                       \
    case SPAROA_##name: return #name;
        SPAROA_STATUS_MAP(X)
#undef X
    }
    return "UNKNOWN";
}

const char *sparoa_status_text(sparoa_status status)
{
    switch (status) {
#define X(name, value, text)                                                                       \
    case SPAROA_##name: return text;
        SPAROA_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}
