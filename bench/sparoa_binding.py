"""libsparoa through ctypes: as much of include/sparoa.h as the benchmarks need."""

import ctypes as c
import os

import numpy as np

MAX_RANK = 8
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64,
          9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64}
CODES = {np.dtype(t): code for code, t in DTYPES.items()}


class Error(c.Structure):
    _fields_ = [("status", c.c_int), ("node", c.c_char * 96), ("message", c.c_char * 416)]


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("dtype", c.c_int), ("rank", c.c_int32), ("dims", c.c_int64 * MAX_RANK)]


class RuntimeOptions(c.Structure):
    _fields_ = [("struct_size", c.c_size_t), ("threads", c.c_int32), ("spin_us", c.c_int32),
                ("affinity", c.c_void_p), ("affinity_count", c.c_int32), ("parallel", c.c_void_p),
                ("parallel_user", c.c_void_p), ("allocator", c.c_void_p * 3), ("memory_limit", c.c_size_t),
                ("log", c.c_void_p), ("log_user", c.c_void_p), ("log_level", c.c_int),
                ("operators", c.c_void_p), ("operator_count", c.c_size_t)]


class ValueInfo(c.Structure):
    _fields_ = [("name", c.c_char_p), ("dtype", c.c_int), ("rank", c.c_int32), ("dims", c.c_int64 * MAX_RANK),
                ("dim_names", c.c_char_p * MAX_RANK)]


class SessionInfo(c.Structure):
    _fields_ = [("node_count", c.c_size_t), ("prepared_bytes", c.c_size_t), ("activation_bytes", c.c_size_t),
                ("unshared_bytes", c.c_size_t), ("runs", c.c_int64), ("last_run_ns", c.c_int64),
                ("flops", c.c_double)]


class DeviceDesc(c.Structure):
    _fields_ = [("name", c.c_char * 32), ("description", c.c_char * 96), ("isa", c.c_char * 32),
                ("cores", c.c_int32), ("memory_bytes", c.c_size_t), ("cache_bytes", c.c_size_t * 3),
                ("clock_mhz", c.c_double)]


class DevicePeak(c.Structure):
    _fields_ = [("gflops_one", c.c_double), ("gflops_all", c.c_double), ("bandwidth", c.c_double)]


class Library:
    """The shared library with the types of the functions used here."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        lib = self.lib = c.CDLL(self.path)
        lib.sparoa_version.restype = c.c_char_p
        for name in ("sparoa_model_input_count", "sparoa_model_output_count", "sparoa_runtime_memory_peak"):
            getattr(lib, name).restype = c.c_size_t
            getattr(lib, name).argtypes = [c.c_void_p]
        for name in ("sparoa_runtime_destroy", "sparoa_model_destroy", "sparoa_session_destroy"):
            getattr(lib, name).restype = None
            getattr(lib, name).argtypes = [c.c_void_p]
        lib.sparoa_session_get_info.restype = None
        lib.sparoa_session_get_info.argtypes = [c.c_void_p, c.POINTER(SessionInfo)]
        lib.sparoa_session_run.argtypes = [c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p, c.c_size_t, c.c_void_p]
        lib.sparoa_model_input.argtypes = [c.c_void_p, c.c_size_t, c.POINTER(ValueInfo)]

    def version(self):
        return self.lib.sparoa_version().decode()

    def call(self, name, *args):
        err = Error()
        if getattr(self.lib, name)(*args, c.byref(err)):
            raise RuntimeError(f"{name}: {err.message.decode(errors='replace')}")


class Session:
    """One model in a runtime of its own, with its inputs and outputs set up for repeated runs."""

    def __init__(self, library, path, feeds, threads, spin_us=0):
        self.library = library
        self.runtime, self.model, self.session = c.c_void_p(), c.c_void_p(), c.c_void_p()
        options = RuntimeOptions(struct_size=c.sizeof(RuntimeOptions), threads=threads, spin_us=spin_us)
        library.call("sparoa_runtime_create", c.byref(options), c.byref(self.runtime))
        try:
            library.call("sparoa_model_load", self.runtime, path.encode(), None, c.byref(self.model))
            library.call("sparoa_session_create", self.model, None, c.byref(self.session))
        except RuntimeError:
            self.close()
            raise
        self._bind(feeds)

    def _bind(self, feeds):
        lib = self.library.lib
        count, self.output_count = lib.sparoa_model_input_count(self.model), lib.sparoa_model_output_count(self.model)
        self.inputs, self.outputs_ = (Tensor * count)(), (Tensor * self.output_count)()
        self.keep = []
        for i in range(count):
            info = ValueInfo()
            lib.sparoa_model_input(self.model, i, c.byref(info))
            array = np.require(feeds[info.name.decode()], requirements="C")
            self.keep.append(array)
            t = self.inputs[i]
            t.data, t.dtype, t.rank = array.ctypes.data, CODES[array.dtype], array.ndim
            t.dims[:array.ndim] = array.shape
        self.err = Error()
        self.args = (self.session, c.byref(self.inputs), count, c.byref(self.outputs_), self.output_count,
                     c.byref(self.err))
        self.function = lib.sparoa_session_run

    def run(self):
        if self.function(*self.args):
            raise RuntimeError(self.err.message.decode(errors="replace"))

    def outputs(self):
        """Copies of the last results. The entries keep pointing into the session's memory."""
        result = []
        for t in self.outputs_:
            dtype, shape = np.dtype(DTYPES[t.dtype]), tuple(t.dims[:t.rank])
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            raw = c.string_at(t.data, size) if size else b""
            result.append(np.frombuffer(raw, dtype).reshape(shape))
        return result

    def info(self):
        info = SessionInfo()
        self.library.lib.sparoa_session_get_info(self.session, c.byref(info))
        return {name: getattr(info, name) for name, _ in SessionInfo._fields_}

    def close(self):
        lib = self.library.lib
        lib.sparoa_session_destroy(self.session)
        lib.sparoa_model_destroy(self.model)
        lib.sparoa_runtime_destroy(self.runtime)
        self.session, self.model, self.runtime = c.c_void_p(), c.c_void_p(), c.c_void_p()


def measure_peak(library, threads, milliseconds=200):
    """Peak multiply-add rate and bandwidth of the CPU, and what the library says of it."""
    runtime = c.c_void_p()
    options = RuntimeOptions(struct_size=c.sizeof(RuntimeOptions), threads=threads)
    library.call("sparoa_runtime_create", c.byref(options), c.byref(runtime))
    peak, desc = DevicePeak(), DeviceDesc()
    library.lib.sparoa_device(runtime, c.c_size_t(0), c.byref(desc))
    library.call("sparoa_device_measure", runtime, c.c_size_t(0), c.c_int32(milliseconds), c.byref(peak))
    library.lib.sparoa_runtime_destroy(runtime)
    return {"gflops_one": peak.gflops_one, "gflops_all": peak.gflops_all, "bandwidth": peak.bandwidth,
            "isa": desc.isa.decode(), "processor": desc.description.decode(), "cores": desc.cores}
