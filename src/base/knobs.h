/* knobs.h - the environment variables that the library reads, all of them, once, when a runtime is
 * created. */
#ifndef SP_BASE_KNOBS_H
#define SP_BASE_KNOBS_H

/* X(field, variable, meaning) */
#define SP_KNOB_MAP(X)                                                                             \
    X(isa, "SPAROA_ISA", "instruction set of the CPU kernels: avx512, avx2, neon or generic")      \
    X(sparse, "SPAROA_SPARSE", "kernels for pruned weights: auto, never or always")                \
    X(join, "SPAROA_JOIN", "convolutions that follow each other in one go: auto, never or always") \
    X(log, "SPAROA_LOG", "log level 0 to 4, where the application leaves it at the default")       \
    X(dump, "SPAROA_DUMP", "folder that gets each session's graph after every pass")

typedef struct sp_knobs {
#define X(field, variable, meaning) const char *field; /* NULL: not set */
    SP_KNOB_MAP(X)
#undef X
} sp_knobs;

sp_knobs sp_knobs_read(void);

#endif
