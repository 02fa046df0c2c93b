/* Sensors on fake trees of files: an AGX Orin, an Orin Nano, an x86 machine with RAPL, a machine
 * that says nothing; NVML by a stand-in; energy of an interval. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "platform/live.h"
#include "tests/support/files.h"

static sp_mem mem;
static sparoa_allocator alloc;
static char root[64];

static int setup(void **state)
{
    alloc = sp_mem_init(&mem, NULL, 0);
    snprintf(root, sizeof root, "sparoa_live_XXXXXX");
    return mkdtemp(root) == NULL;
}

static int teardown(void **state)
{
    return ts_remove(root) != 0 || atomic_load(&mem.used) != 0;
}

static void put(const char *path, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    assert_in_range(length, 0, sizeof text - 1);
    ts_put(root, path, text);
}

static void put_cpu(unsigned user, unsigned idle, unsigned own)
{
    put("/proc/stat", "cpu  %u 0 0 %u 0 0 0 0 0 0\ncpu0 1 2 3", user, idle);
    put("/proc/self/stat", "77 (a (name) b) S 1 77 77 0 -1 4194304 100 0 0 0 %u 0 0 0 20", own);
}

static void put_orin_common(void)
{
    put_cpu(1000, 1000, 100);
    put("/proc/meminfo", "MemTotal:       64000000 kB\nMemFree: 1 kB\nMemAvailable:   48000000 kB");
    for (int core = 0; core < 4; core++) {
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", core);
        put(path, "%d", core < 2 ? 1100800 : 2201600);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq", core);
        put(path, "2201600");
    }
    put("/sys/devices/system/cpu/present", "0-11");
    put("/sys/devices/system/cpu/online", "0-3,6-9");
    put("/sys/class/thermal/thermal_zone0/type", "cpu-thermal");
    put("/sys/class/thermal/thermal_zone0/temp", "47500");
    put("/sys/class/thermal/thermal_zone1/type", "gpu-thermal");
    put("/sys/class/thermal/thermal_zone1/temp", "44250");
    put("/sys/class/thermal/thermal_zone8/type", "tj-thermal");
    put("/sys/class/thermal/thermal_zone8/temp", "51000");
}

static void put_rail(const char *chip, int channel, const char *label, int mv, int ma)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/class/hwmon/%s/in%d_label", chip, channel);
    put(path, "%s", label);
    snprintf(path, sizeof path, "/sys/class/hwmon/%s/in%d_input", chip, channel);
    put(path, "%d", mv);
    snprintf(path, sizeof path, "/sys/class/hwmon/%s/curr%d_input", chip, channel);
    put(path, "%d", ma);
}

static const sp_live_source orin_devices[] = {{NULL, NULL, "cpu", SPAROA_DEVICE_CPU},
                                              {NULL, NULL, "cuda0", SPAROA_DEVICE_INTEGRATED_GPU}};

static sp_live *open_live(const sp_live_source *devices, uint32_t count, const char *nvml)
{
    sparoa_error err = {0};
    sp_live *live;
    const sp_live_options o = {root, nvml, devices, count};
    if (sp_live_create(&alloc, &o, &live, &err)) fail_msg("%s", err.message);
    return live;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-6 * fmax(1, fabs(b));
}

static void agx_orin(void **state)
{
    put_orin_common();
    put("/sys/class/devfreq/17000000.gpu/cur_freq", "650250000");
    put("/sys/class/devfreq/17000000.gpu/max_freq", "1300500000");
    put("/sys/class/devfreq/17000000.gpu/device/load", "345");
    put("/sys/class/devfreq/15340000.vic/cur_freq", "115200000");
    put("/sys/kernel/debug/bpmp/debug/clk/emc/rate", "2133000000");
    put("/sys/kernel/debug/bpmp/debug/clk/emc/max_rate", "3199000000");
    put("/sys/class/hwmon/hwmon3/name", "ina3221");
    put_rail("hwmon3", 1, "VDD_GPU_SOC", 12000, 500);
    put_rail("hwmon3", 2, "VDD_CPU_CV", 12000, 250);
    put_rail("hwmon3", 3, "VIN_SYS_5V0", 5000, 800);
    put("/sys/class/hwmon/hwmon4/name", "ina3221");
    put_rail("hwmon4", 1, "NC", 0, 0);
    put_rail("hwmon4", 2, "VDDQ_VDD2_1V8AO", 12000, 100);
    sp_live *live = open_live(orin_devices, 2, NULL);
    sparoa_live_state s;
    put_cpu(1300, 1100, 200); /* 400 ticks: 300 busy, 100 of them ours */
    sp_live_read(live, (double[]){0, 0.2}, &s);
    assert_int_equal(s.device_count, 2);
    assert_true(near(s.devices[0].load, 0.75));
    assert_true(near(s.devices[0].other_load, 0.5));
    assert_true(near(s.devices[0].clock_mhz, 0.75 * 2201.6));
    assert_true(near(s.devices[0].max_clock_mhz, 2201.6));
    assert_true(near(s.devices[0].units, 8.0 / 12));
    assert_true(near(s.devices[0].temperature_c, 47.5));
    assert_true(near(s.devices[0].memory_free / s.devices[0].memory_bytes, 0.75));
    assert_string_equal(s.devices[1].name, "cuda0");
    assert_true(near(s.devices[1].load, 0.345));
    assert_true(near(s.devices[1].other_load, 0.145));
    assert_true(near(s.devices[1].clock_mhz, 650.25));
    assert_true(near(s.devices[1].temperature_c, 44.25));
    assert_true(s.devices[1].power_w < 0);
    assert_true(near(s.memory_clock, 2133.0 / 3199));
    assert_true(near(s.power_w, 6 + 3 + 4)); /* VDDQ lies behind VIN_SYS_5V0 */

    sp_platform *orin = calloc(1, sizeof *orin);
    sparoa_error err;
    assert_int_equal(sp_platform_load(&alloc,
                                      SPAROA_SOURCE_DIR "/platforms/jetson_agx_orin_64gb.yaml",
                                      orin, &err),
                     SPAROA_OK);
    sp_platform_state ps;
    sp_live_platform_state(&s, orin, NULL, &ps);
    assert_true(near(ps.device[0].load, 0.5));
    assert_true(near(ps.device[0].clock, 0.75));
    assert_true(near(ps.device[1].clock, 0.5));
    assert_true(near(ps.device[0].memory_used, 0.25));
    assert_true(near(ps.memory_clock, 2133.0 / 3199));
    assert_true(near(ps.idle_watts, orin->idle_watts));
    free(orin);
    sp_live_destroy(live);
}

static void orin_nano(void **state)
{
    put_orin_common();
    put("/sys/class/devfreq/17000000.ga10b/cur_freq", "624750000");
    put("/sys/class/devfreq/17000000.ga10b/max_freq", "624750000");
    put("/sys/devices/platform/gpu.0/load", "1000");
    put("/sys/class/hwmon/hwmon1/name", "ina3221");
    put_rail("hwmon1", 1, "VDD_IN", 5000, 1400);
    put_rail("hwmon1", 2, "VDD_CPU_GPU_CV", 5000, 400);
    put_rail("hwmon1", 3, "VDD_SOC", 5000, 300);
    sp_live *live = open_live(orin_devices, 2, NULL);
    sparoa_live_state s;
    sparoa_error err;
    sp_live_read(live, NULL, &s);
    assert_true(s.devices[0].load < 0); /* no tick has passed */
    assert_true(near(s.devices[1].load, 1));
    assert_true(near(s.power_w, 7)); /* the other rails lie behind VDD_IN */

    sparoa_energy e;
    assert_int_equal(sp_energy_start(live, &err), SPAROA_OK);
    assert_int_equal(sp_energy_start(live, &err), SPAROA_INVALID_STATE);
    usleep(60000);
    put_rail("hwmon1", 1, "VDD_IN", 5000, 1400);
    assert_int_equal(sp_energy_stop(live, &e, &err), SPAROA_OK);
    assert_string_equal(e.sensor, "INA3221 VDD_IN");
    assert_true(e.sampled);
    assert_true(e.seconds >= 0.06);
    assert_true(fabs(e.joules / e.seconds - 7) <
                0.5); /* a sample may miss the file being written */
    assert_int_equal(sp_energy_stop(live, &e, &err), SPAROA_INVALID_STATE);
    sp_live_destroy(live);
}

static void x86_with_rapl(void **state)
{
    put_cpu(10, 10, 0);
    put("/proc/cpuinfo", "processor\t: 0\nmodel name\t: x\ncpu MHz\t\t: 2599.998");
    put("/sys/class/hwmon/hwmon0/name", "coretemp");
    put("/sys/class/hwmon/hwmon0/temp1_input", "38000");
    put("/sys/class/powercap/intel-rapl:0/name", "package-0");
    put("/sys/class/powercap/intel-rapl:0/energy_uj", "999000000");
    put("/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "1000000000");
    put("/sys/class/powercap/intel-rapl:0:0/name", "core");
    put("/sys/class/powercap/intel-rapl:0:0/energy_uj", "5000000");
    put("/sys/class/powercap/intel-rapl:0:1/name", "dram");
    put("/sys/class/powercap/intel-rapl:0:1/energy_uj", "1000000");
    put("/sys/class/powercap/intel-rapl:1/name", "psys");
    put("/sys/class/powercap/intel-rapl:1/energy_uj", "7000000");
    sp_live *live = open_live(orin_devices, 1, NULL);
    sparoa_live_state s;
    sparoa_energy e;
    sparoa_error err;
    sp_live_read(live, NULL, &s);
    assert_true(near(s.devices[0].clock_mhz, 2599.998));
    assert_true(s.devices[0].max_clock_mhz < 0);
    assert_true(near(s.devices[0].temperature_c, 38));
    assert_true(s.power_w < 0);
    assert_int_equal(sp_energy_start(live, &err), SPAROA_OK);
    put("/sys/class/powercap/intel-rapl:0/energy_uj", "2000000"); /* it went round */
    put("/sys/class/powercap/intel-rapl:0:1/energy_uj", "1500000");
    put("/sys/class/powercap/intel-rapl:1/energy_uj", "9000000");
    assert_int_equal(sp_energy_stop(live, &e, &err), SPAROA_OK);
    assert_true(near(e.joules, 3.5));
    assert_false(e.sampled);
    assert_string_equal(e.sensor, "RAPL package-0 + RAPL dram");
    sp_live_destroy(live);
}

static void nothing_known(void **state)
{
    sp_live *live = open_live(orin_devices, 1, "/nonexistent/libnvidia-ml.so");
    sparoa_live_state s;
    sparoa_energy e;
    sparoa_error err;
    assert_int_equal(sp_live_sensor_count(live), 0);
    sp_live_read(live, NULL, &s);
    assert_true(s.devices[0].load < 0 && s.devices[0].other_load < 0 && s.devices[0].units < 0);
    assert_true(s.devices[0].clock_mhz < 0 && s.devices[0].temperature_c < 0 && s.power_w < 0);
    assert_int_equal(sp_energy_start(live, &err), SPAROA_OK);
    assert_int_equal(sp_energy_stop(live, &e, &err), SPAROA_OK);
    assert_true(e.joules < 0);
    assert_string_equal(e.sensor, "unknown");
    sp_live_destroy(live);
}

/* Files with nonsense in them are unknown, not zero. */
static void damaged_files(void **state)
{
    put("/proc/stat", "cpu is busy");
    put("/proc/self/stat", "7 (x");
    put("/proc/meminfo", "MemTotal: lots");
    put("/sys/devices/system/cpu/present", "all of them");
    put("/sys/devices/system/cpu/online", "0-");
    put("/sys/class/thermal/thermal_zone0/type", "cpu");
    put("/sys/class/thermal/thermal_zone0/temp", "warm");
    put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unknown>");
    put("/sys/class/hwmon/hwmon0/name", "ina3221");
    put_rail("hwmon0", 1, "VDD_IN", 5000, 100);
    put("/sys/class/hwmon/hwmon0/curr1_input", "some");
    put("/sys/class/powercap/intel-rapl:0/name", "package-0");
    put("/sys/class/powercap/intel-rapl:0/energy_uj", "%s", "");
    sp_live *live = open_live(orin_devices, 1, NULL);
    sparoa_live_state s;
    sparoa_energy e;
    sparoa_error err;
    sp_live_read(live, NULL, &s);
    assert_true(s.devices[0].load < 0 && s.devices[0].temperature_c < 0 && s.devices[0].units < 0);
    assert_true(s.devices[0].clock_mhz < 0 && s.devices[0].memory_bytes < 0 && s.power_w < 0);
    assert_int_equal(sp_energy_start(live, &err), SPAROA_OK);
    assert_int_equal(sp_energy_stop(live, &e, &err), SPAROA_OK);
    assert_true(e.joules < 0);
    sp_live_destroy(live);
}

/* A plug-in that tells its power for a while; dev counts what it may still tell. */
static sparoa_status tell(sparoa_dev *dev, sparoa_device_status *status)
{
    atomic_int *left = (atomic_int *)(void *)dev;
    status->load = 0.5;
    status->power_w = 20;
    return atomic_fetch_sub(left, 1) > 0 ? SPAROA_OK : SPAROA_DEVICE_LOST;
}

static void no_info(const sparoa_dev *dev, sparoa_device_info *info)
{
    (void)dev;
    info->memory_bytes = 0;
}

/* States may be read while power is sampled; a plug-in that fails is unknown, not as before. */
static void plug_in(void **state)
{
    static const sparoa_backend table = {
        .name = "fake", .device_info = no_info, .device_status = tell};
    atomic_int left = 1000000;
    const sp_live_source devices[] = {
        {NULL, NULL, "cpu", SPAROA_DEVICE_CPU},
        {&table, (sparoa_dev *)(void *)&left, "gpu", SPAROA_DEVICE_GPU}};
    sp_live *live = open_live(devices, 2, NULL);
    sparoa_live_state s;
    sparoa_energy e;
    sparoa_error err;
    assert_int_equal(sp_energy_start(live, &err), SPAROA_OK);
    for (int i = 0; i < 40; i++) {
        sp_live_read(live, NULL, &s);
        assert_true(near(s.devices[1].power_w, 20) && near(s.power_w, 20));
        usleep(1000);
    }
    assert_int_equal(sp_energy_stop(live, &e, &err), SPAROA_OK);
    assert_true(e.sampled && fabs(e.joules / (20 * e.seconds) - 1) < 1e-6);
    assert_string_equal(e.sensor, "gpu");

    atomic_store(&left, 0);
    assert_int_equal(sp_energy_start(live, &err), SPAROA_OK);
    assert_int_equal(sp_energy_stop(live, &e, &err), SPAROA_OK);
    assert_true(e.joules < 0);
    sp_live_destroy(live);
}

static void management_library(void **state)
{
    sp_live *live = open_live(orin_devices, 2, FAKE_NVML_PATH);
    sparoa_live_state s;
    sparoa_energy e;
    sparoa_error err;
    sp_live_read(live, NULL, &s);
    assert_true(s.devices[1].load < 0); /* this GPU does not say */
    assert_true(near(s.devices[1].clock_mhz, 1200));
    assert_true(near(s.devices[1].max_clock_mhz, 1980));
    assert_true(near(s.devices[1].temperature_c, 61));
    assert_true(near(s.devices[1].memory_free / s.devices[1].memory_bytes, 0.75));
    assert_true(near(s.devices[1].power_w, 250));
    assert_int_equal(sp_energy_start(live, &err), SPAROA_OK);
    assert_int_equal(sp_energy_stop(live, &e, &err), SPAROA_OK);
    assert_true(near(e.joules, 2.5)); /* the counter, not the power */
    assert_string_equal(e.sensor, "NVML GPU 0");
    assert_false(e.sampled);
    sp_live_destroy(live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(agx_orin, setup, teardown),
        cmocka_unit_test_setup_teardown(orin_nano, setup, teardown),
        cmocka_unit_test_setup_teardown(x86_with_rapl, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_known, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_files, setup, teardown),
        cmocka_unit_test_setup_teardown(plug_in, setup, teardown),
        cmocka_unit_test_setup_teardown(management_library, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
