/* The table of commands. */
#include "cli/cli.h"

const sp_command sp_commands[] = {
    {"run", "[MODEL] [options]",
     "Runs a model once on files, pictures or random inputs and shows what comes out.", sp_cmd_run},
    {"test", "DIR... [options]",
     "Runs folders in ONNX's test layout and says what passed, failed and was skipped.",
     sp_cmd_test},
    {"profile", "[MODEL] [options]", "Shows the time, work and sparsity of every operator.",
     sp_cmd_profile},
    {"bench", "[MODEL] [options]", "Measures latency or throughput, memory and loading time.",
     sp_cmd_bench},
    {"check", "[MODEL] [options]",
     "Says whether a model loads, what it needs and what it consists of.", sp_cmd_check},
    {"diff", "[MODEL] [options]",
     "Compares the optimised run with the plain reference run value by value.", sp_cmd_diff},
    {"plan", "[MODEL] --platform FILE [options]",
     "Decides where every operator should run on a described machine, and why.", sp_cmd_plan},
    {"simulate", "[MODEL] --platform FILE [options]",
     "Compares all placement policies on a described machine.", sp_cmd_simulate},
    {"calibrate", "[-o FILE] [--check MODEL]... [options]",
     "Measures this machine into a platform file, and checks what such a file predicts.",
     sp_cmd_calibrate},
    {"doctor", "[options]", "Shows the machine as the library sees it, and what is wrong with it.",
     sp_cmd_doctor},
    {"operators", "[options]", "Lists the operators of the library.", sp_cmd_operators},
    {NULL, NULL, NULL, NULL},
};
