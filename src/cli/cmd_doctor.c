/* sparoa doctor: the machine as the library sees it, and what is wrong with it. */
#include "cli/job.h"
#include "cli/system.h"
#include "sparoa_live.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PROBLEMS = 16 };

typedef struct doctor_command {
    sp_cli *cli;
    sparoa_runtime *runtime;
    sparoa_live *live;
    bool no_peak;
    size_t devices, operators;
    sparoa_device_desc cpu;
    sparoa_device_peak peak;
    int64_t available;
    char governor[64];
    char problems[MAX_PROBLEMS][200];
    size_t problem_count;
} doctor_command;

__attribute__((format(printf, 2, 3))) static void problem(doctor_command *d, const char *format,
                                                          ...)
{
    if (d->problem_count == MAX_PROBLEMS) return;
    va_list list;
    va_start(list, format);
    vsnprintf(d->problems[d->problem_count++], sizeof d->problems[0], format, list);
    va_end(list);
}

static void find_problems(doctor_command *d)
{
#if defined(__x86_64__)
    const char *isa = d->cpu.isa;
    if (!strstr(isa, "avx2") && !strstr(isa, "avx512"))
        problem(d, "no AVX2: the plain kernels run, several times slower; use a processor from "
                   "2013 or later");
#endif
    if (d->cpu.cores == 1)
        problem(
            d, "one usable core: nothing runs in parallel; check taskset or the container's limit");
    int64_t low = (int64_t)512 << 20;
    if (d->available > 0 && d->available < low)
        problem(d, "%.0f MiB of memory are available: large models will not load",
                (double)d->available / 1048576);
    if (*d->governor && strcmp(d->governor, "performance") && strcmp(d->governor, "schedutil"))
        problem(d,
                "CPU frequency governor is '%s': times vary; for measuring, set it to performance",
                d->governor);
    if (sp_load() > d->cpu.cores)
        problem(d, "the load average is %.1f on %d cores: other work slows runs down", sp_load(),
                (int)d->cpu.cores);
    if (sp_gpu_driver() && sp_gpu_files() == 0)
        problem(d, "an NVIDIA driver is loaded, but there is no /dev/nvidia0: check the "
                   "container's devices");
    if (sp_gpu_files() > 0 && d->devices < 2)
        problem(d,
                "%d NVIDIA GPUs are there, and the library uses none of them: the CUDA plug-in is "
                "not loaded",
                sp_gpu_files());
}

static int examine(doctor_command *d)
{
    sparoa_error err = {0};
    if (sp_job_runtime(d->cli, 0, &d->runtime, &err)) return sp_cli_error(d->cli, "runtime", &err);
    d->devices = sparoa_device_count(d->runtime);
    if (sparoa_device(d->runtime, 0, &d->cpu))
        return sp_cli_fail(d->cli, SP_EXIT_FAIL, "the library has no device");
    if (sparoa_live_create(d->runtime, NULL, &d->live, &err))
        return sp_cli_error(d->cli, "sensors", &err);
    if (!d->no_peak && sparoa_device_measure(d->runtime, 0, 300, &d->peak, &err))
        return sp_cli_error(d->cli, "measuring", &err);
    while (sparoa_operator_name(d->operators, NULL, NULL)) d->operators++;
    sparoa_live_state state; /* loads are means since the sensors were opened */
    if (d->no_peak) usleep(100000);
    sparoa_live_read(d->live, &state);
    d->available = sp_system_memory("MemAvailable");
    sp_governor(d->governor, sizeof d->governor);
    find_problems(d);
    return -1;
}

static void print_size(size_t bytes)
{
    if (!bytes)
        printf("?");
    else if (bytes < 1048576)
        printf("%zu KiB", bytes / 1024);
    else
        printf("%.4g MiB", (double)bytes / 1048576);
}

static void print_sensors(const doctor_command *d)
{
    sparoa_sensor s;
    bool energy = false;
    for (size_t i = 0; !sparoa_live_sensor(d->live, i, &s); i++) {
        printf("sensor      %s, %s: ", s.name, s.what);
        if (s.value < 0)
            printf("unknown");
        else
            printf(s.value < 1000 ? "%.4g %s" : "%.0f %s", s.value, s.unit);
        printf(" (%s)\n", s.source);
        energy |= s.counts && s.value >= 0;
    }
    if (!energy) printf("sensor      energy: unknown, none can be read\n");
}

static void sensors_json(sp_json *j, const doctor_command *d)
{
    sparoa_sensor s;
    sp_json_array(j, "sensors");
    for (size_t i = 0; !sparoa_live_sensor(d->live, i, &s); i++) {
        sp_json_flat_object(j, NULL);
        sp_json_string(j, "name", s.name);
        sp_json_string(j, "what", s.what);
        sp_json_string(j, "unit", s.unit);
        sp_json_string(j, "source", s.source);
        if (s.value < 0)
            sp_json_null(j, "value");
        else
            sp_json_number(j, "value", s.value);
        sp_json_bool(j, "counts", s.counts != 0);
        sp_json_end_object(j);
    }
    sp_json_end_array(j);
}

static void print_text(const doctor_command *d)
{
    const sparoa_device_desc *c = &d->cpu;
    printf("sparoa      %s, %zu operators\n", sparoa_version(), d->operators);
    printf("processor   %s, %d usable cores", c->description, (int)c->cores);
    if (c->clock_mhz > 0) printf(", %.0f MHz", c->clock_mhz);
    printf("\ninstruction sets  %s\ncaches      L1 ", c->isa);
    print_size(c->cache_bytes[0]);
    printf(", L2 ");
    print_size(c->cache_bytes[1]);
    printf(", L3 ");
    print_size(c->cache_bytes[2]);
    printf("\nmemory      %.1f GiB installed, %.1f GiB available\n",
           (double)c->memory_bytes / 1073741824, (double)d->available / 1073741824);
    if (d->peak.gflops_one > 0)
        printf("peak        %.1f GFLOP/s on one thread, %.1f on %d, reads %.1f GB/s (measured)\n",
               d->peak.gflops_one, d->peak.gflops_all, (int)sparoa_runtime_threads(d->runtime),
               d->peak.bandwidth);
    printf("governor    %s\n", *d->governor ? d->governor : "unknown");
    printf("GPU         %d device files, driver %s\n", sp_gpu_files(),
           sp_gpu_driver() ? "present" : "absent");
    printf("devices    ");
    for (size_t i = 0; i < d->devices; i++) {
        sparoa_device_desc device;
        if (!sparoa_device(d->runtime, i, &device)) printf(" %s", device.name);
    }
    putchar('\n');
    print_sensors(d);
    printf("passes     ");
    const char *name;
    for (size_t i = 0; (name = sparoa_pass_name(i)); i++) printf(" %s", name);
    putchar('\n');
    for (size_t i = 0; i < d->problem_count; i++) printf("problem     %s\n", d->problems[i]);
    if (d->problem_count == 0) printf("no problems found\n");
}

static bool print_json(const doctor_command *d)
{
    FILE *file = sp_cli_json_open(d->cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_json_string(&j, "command", "doctor");
    sp_json_string(&j, "version", sparoa_version());
    sp_json_int(&j, "operators", (int64_t)d->operators);
    sp_json_object(&j, "cpu");
    sp_json_string(&j, "description", d->cpu.description);
    sp_json_string(&j, "isa", d->cpu.isa);
    sp_json_int(&j, "cores", d->cpu.cores);
    sp_json_number(&j, "clock_mhz", d->cpu.clock_mhz);
    sp_json_flat_array(&j, "cache_bytes");
    for (int i = 0; i < 3; i++) sp_json_int(&j, NULL, (int64_t)d->cpu.cache_bytes[i]);
    sp_json_end_array(&j);
    sp_json_int(&j, "memory_bytes", (int64_t)d->cpu.memory_bytes);
    sp_json_int(&j, "memory_available", d->available);
    sp_json_string(&j, "governor", *d->governor ? d->governor : NULL);
    sp_json_end_object(&j);
    sp_json_flat_object(&j, "peak");
    sp_json_number(&j, "gflops_one", d->peak.gflops_one);
    sp_json_number(&j, "gflops_all", d->peak.gflops_all);
    sp_json_number(&j, "bandwidth", d->peak.bandwidth);
    sp_json_end_object(&j);
    sp_json_int(&j, "gpu_files", sp_gpu_files());
    sp_json_bool(&j, "gpu_driver", sp_gpu_driver());
    sp_json_flat_array(&j, "devices");
    for (size_t i = 0; i < d->devices; i++) {
        sparoa_device_desc device;
        if (!sparoa_device(d->runtime, i, &device)) sp_json_string(&j, NULL, device.name);
    }
    sp_json_end_array(&j);
    sp_json_flat_array(&j, "passes");
    const char *name;
    for (size_t i = 0; (name = sparoa_pass_name(i)); i++) sp_json_string(&j, NULL, name);
    sp_json_end_array(&j);
    sensors_json(&j, d);
    sp_json_array(&j, "problems");
    for (size_t i = 0; i < d->problem_count; i++) sp_json_string(&j, NULL, d->problems[i]);
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    return sp_cli_json_close(d->cli, file);
}

int sp_cmd_doctor(sp_cli *cli, int argc, char **argv)
{
    doctor_command d = {.cli = cli};
    const sp_arg table[] = {
        {SP_ARG_FLAG, 0, "no-peak", &d.no_peak, NULL, "do not measure the machine's peak", 0, 0,
         NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, table, NULL, argc, argv);
    if (code < 0) code = examine(&d);
    if (code < 0) {
        if (sp_cli_text(cli)) print_text(&d);
        code = cli->json_path && !print_json(&d) ? SP_EXIT_FAIL : SP_EXIT_PASS;
    }
    sparoa_live_destroy(d.live);
    sparoa_runtime_destroy(d.runtime);
    return code;
}
