"""One class per inference engine. A class is imported only in that engine's own process.

An engine is made with the number of threads, then:
    load(path, feeds)   loads the ONNX model and makes it ready for inputs of these shapes
    run()               one inference on the feeds; the result stays where the engine puts it
    outputs()           results of the last run as numpy arrays in the model's order
    close()             frees what load made, so that load can be called again
All run in float32: engines that would switch to bfloat16 or float16 by themselves are told not to.
`notes` says what a reader of the table must know. convert(path, feeds, folder) is for engines
that need the model in a form of their own; its time is no part of the start time.
"""

import os
import subprocess
import sys


class Engine:
    notes = ""

    def __init__(self, threads, options):
        self.threads, self.options = threads, options

    def convert(self, path, feeds, folder):
        return path

    def close(self):
        self.session = None

    def info(self):
        return {}


class Sparoa(Engine):
    def __init__(self, threads, options):
        super().__init__(threads, options)
        import sparoa_binding
        self.binding = sparoa_binding
        self.library = sparoa_binding.Library(options["library"])
        self.version = self.library.version()

    def load(self, path, feeds):
        self.session = self.binding.Session(self.library, path, feeds, self.threads, self.options.get("spin_us", 0))
        self.run = self.session.run

    def outputs(self):
        return self.session.outputs()

    def info(self):
        return self.session.info()

    def close(self):
        self.session.close()


class OnnxRuntime(Engine):
    notes = "CPU provider, default options, threads spin as shipped"

    def __init__(self, threads, options):
        super().__init__(threads, options)
        import onnxruntime
        self.ort = onnxruntime
        self.version = onnxruntime.__version__

    def load(self, path, feeds):
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = self.ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        # Bound inputs and outputs: no copies, and little Python in the time of a run.
        self.binding = self.session.io_binding()
        self.values = [self.ort.OrtValue.ortvalue_from_numpy(feeds[i.name]) for i in self.session.get_inputs()]
        for i, value in zip(self.session.get_inputs(), self.values):
            self.binding.bind_ortvalue_input(i.name, value)
        for o in self.session.get_outputs():
            self.binding.bind_output(o.name, "cpu")
        self.bound = False

    def run(self):
        self.session.run_with_iobinding(self.binding)
        if not self.bound:
            # The shapes are known now: the next runs write to the same memory.
            for o, value in zip(self.session.get_outputs(), self.binding.get_outputs()):
                self.binding.bind_ortvalue_output(o.name, value)
            self.bound = True

    def outputs(self):
        return self.binding.copy_outputs_to_cpu()

    def close(self):
        self.binding = self.values = self.session = None


class OpenVino(Engine):
    notes = "static shapes, latency hint, one stream, float32"

    def __init__(self, threads, options):
        super().__init__(threads, options)
        import openvino
        self.ov = openvino
        self.version = openvino.__version__.split("-")[0]
        self.core = openvino.Core()

    def load(self, path, feeds):
        model = self.core.read_model(path)
        names = {name: port for port in model.inputs for name in port.get_names()}
        model.reshape({names[name]: list(a.shape) for name, a in feeds.items() if name in names})
        compiled = self.core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32"})
        self.session = compiled.create_infer_request()
        self.keep = []
        for name, array in feeds.items():
            if name in names:
                tensor = self.ov.Tensor(array, shared_memory=True)
                self.keep.append(tensor)
                self.session.set_tensor(name, tensor)
        self.count = len(compiled.outputs)

    def run(self):
        self.session.infer()

    def outputs(self):
        return [self.session.get_output_tensor(i).data.copy() for i in range(self.count)]


class Ncnn(Engine):
    notes = "converted by pnnx, float32 storage and arithmetic; batch n = n runs, it has no batches"

    def __init__(self, threads, options):
        super().__init__(threads, options)
        import ncnn
        self.ncnn = ncnn
        self.version = ncnn.__version__

    def convert(self, path, feeds, folder):
        import shutil
        copy = os.path.join(folder, "model.onnx")
        shutil.copyfile(path, copy)
        shapes = ",".join("[" + ",".join(map(str, (1,) + a.shape[1:])) + "]" for a in feeds.values())
        tool = os.path.join(os.path.dirname(sys.executable), "pnnx")
        command = [tool, "model.onnx", "inputshape=" + shapes, "fp16=0", "optlevel=2"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        param = os.path.join(folder, "model.ncnn.param")
        if not os.path.exists(param):
            lines = [l for l in (done.stderr + done.stdout).splitlines() if l.strip()]
            raise RuntimeError(f"pnnx ended with {done.returncode}: {lines[-1] if lines else 'no message'}")
        return param

    def load(self, path, feeds):
        self.session = self.ncnn.Net()
        options = self.session.opt
        options.num_threads = self.threads
        options.use_vulkan_compute = False
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage",
                     "use_bf16_packed"):
            if hasattr(options, name):
                setattr(options, name, False)
        if self.session.load_param(path) or self.session.load_model(path[:-5] + "bin"):
            raise RuntimeError("ncnn does not load what pnnx wrote (layers that it lacks)")
        arrays = list(feeds.values())
        self.batch = arrays[0].shape[0]
        self.mats = [[self.ncnn.Mat(a[b]) for a in arrays] for b in range(self.batch)]
        self.names = self.session.input_names(), self.session.output_names()

    def run(self):
        self.results = []
        for mats in self.mats:
            extractor = self.session.create_extractor()
            for name, mat in zip(self.names[0], mats):
                extractor.input(name, mat)
            found = []
            for name in self.names[1]:
                code, mat = extractor.extract(name)
                if code:
                    raise RuntimeError(f"ncnn could not compute {name} (code {code})")
                found.append(mat)
            self.results.append(found)

    def outputs(self):
        import numpy as np
        return [np.stack([np.array(r[i]) for r in self.results]) for i in range(len(self.names[1]))]

    def close(self):
        self.results = self.mats = self.session = None


class Mnn(Engine):
    notes = "converted by mnnconvert, precision high (float32)"

    def __init__(self, threads, options):
        super().__init__(threads, options)
        import MNN
        self.mnn = MNN
        self.version = MNN.version()

    def convert(self, path, feeds, folder):
        target = os.path.join(folder, "model.mnn")
        tool = os.path.join(os.path.dirname(sys.executable), "mnnconvert")
        command = [tool, "-f", "ONNX", "--modelFile", path, "--MNNModel", target, "--bizCode", "bench"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        if not os.path.exists(target):
            lines = [l for l in (done.stderr + done.stdout).splitlines() if l.strip()]
            raise RuntimeError(f"mnnconvert ended with {done.returncode}: {lines[-1] if lines else 'no message'}")
        return target

    def load(self, path, feeds):
        import numpy as np
        self.session = self.mnn.Interpreter(path)
        self.handle = self.session.createSession(
            {"backend": "CPU", "numThread": self.threads, "precision": "high"})
        kinds = {np.dtype(np.float32): self.mnn.Halide_Type_Float, np.dtype(np.int32): self.mnn.Halide_Type_Int,
                 np.dtype(np.int64): self.mnn.Halide_Type_Int64, np.dtype(np.uint8): self.mnn.Halide_Type_Uint8}
        inputs = self.session.getSessionInputAll(self.handle)
        for name, array in feeds.items():
            self.session.resizeTensor(inputs[name], tuple(array.shape))
        self.session.resizeSession(self.handle)
        self.inputs = []
        for name, array in feeds.items():
            host = self.mnn.Tensor(tuple(array.shape), kinds[array.dtype], array,
                                   self.mnn.Tensor_DimensionType_Caffe)
            self.inputs.append((inputs[name], host, array))
        self.names = self.options["output_names"]

    def run(self):
        for tensor, host, _ in self.inputs:
            tensor.copyFrom(host)
        self.session.runSession(self.handle)

    def outputs(self):
        import numpy as np
        found = []
        for name in self.names:
            tensor = self.session.getSessionOutput(self.handle, name)
            shape = tensor.getShape()
            host = self.mnn.Tensor(shape, self.mnn.Halide_Type_Float, np.zeros(shape, np.float32),
                                   self.mnn.Tensor_DimensionType_Caffe)
            tensor.copyToHostTensor(host)
            found.append(np.array(host.getNumpyData(), dtype=np.float32).reshape(shape).copy())
        return found

    def close(self):
        self.inputs = self.handle = self.session = None


class Torch(Engine):
    notes = "onnx2torch graph, eager, inference mode"
    compiled = False

    def __init__(self, threads, options):
        super().__init__(threads, options)
        import torch
        import onnx2torch
        self.torch, self.onnx2torch = torch, onnx2torch
        self.version = torch.__version__
        torch.set_num_threads(threads)

    def load(self, path, feeds):
        torch = self.torch
        self.session = self.onnx2torch.convert(path).eval()
        if self.compiled:
            self.session = torch.compile(self.session)
        self.inputs = [torch.from_numpy(a) for a in feeds.values()]

    def run(self):
        with self.torch.inference_mode():
            self.result = self.session(*self.inputs)

    def outputs(self):
        results = self.result if isinstance(self.result, (list, tuple)) else [self.result]
        return [r.numpy() for r in results]


class TorchCompiled(Torch):
    notes = "onnx2torch graph, torch.compile (inductor) with default options"
    compiled = True


class Tvm(Engine):
    notes = "Relax, target llvm for this processor, default pipeline, not tuned"

    def __init__(self, threads, options):
        os.environ["TVM_NUM_THREADS"] = str(threads)
        super().__init__(threads, options)
        import tvm
        self.tvm = tvm
        self.version = tvm.__version__

    def convert(self, path, feeds, folder):
        import onnx
        from tvm import relax
        from tvm.relax.frontend.onnx import from_onnx
        shapes = {name: list(a.shape) for name, a in feeds.items()}
        module = from_onnx(onnx.load(path), shape_dict=shapes, keep_params_in_input=False)
        target = os.path.join(folder, "model.so")
        machine = {"kind": "llvm", "mcpu": self.tvm.target.codegen.llvm_get_system_cpu(),
                   "num-cores": self.threads}
        with self.tvm.transform.PassContext(opt_level=3):
            relax.build(module, target=self.tvm.target.Target(machine)).export_library(target)
        return target

    def load(self, path, feeds):
        from tvm import relax
        device = self.tvm.cpu()
        self.session = relax.VirtualMachine(self.tvm.runtime.load_module(path), device)
        make = getattr(self.tvm.runtime, "tensor", None) or self.tvm.nd.array
        self.session.set_input("main", *[make(a, device) for a in feeds.values()])

    def run(self):
        self.session.invoke_stateful("main")

    def outputs(self):
        result = self.session.get_outputs("main")
        return [r.numpy() for r in (result if not hasattr(result, "numpy") else [result])]


ENGINES = {"sparoa": Sparoa, "onnxruntime": OnnxRuntime, "openvino": OpenVino, "ncnn": Ncnn, "mnn": Mnn,
           "torch": Torch, "torch_compile": TorchCompiled, "tvm": Tvm}
