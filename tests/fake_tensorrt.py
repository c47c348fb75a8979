"""TensorRT's Python interface without TensorRT: records what is asked and computes on the fake driver's memory.

It keeps TensorRT's rules: a context needs its profile, its addresses and a shape inside the profile;
a profile belongs to one context; what it refuses it refuses by None or False and a word to the logger.
"""

from __future__ import annotations

import ctypes
import enum
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from tests.bundles import reference
from tests.fake_cuda import FakeDriver

if TYPE_CHECKING:
    from collections.abc import Callable

Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
DataType = enum.Enum("DataType", "UINT8 FLOAT HALF")
BuilderFlag = enum.Enum("BuilderFlag", "TF32 REFIT")
Strategy = enum.Enum("Strategy", "STATIC ON_PROFILE_CHANGE")
CreationFlag = enum.IntEnum("CreationFlag", {"STRONGLY_TYPED": 1})
NAMES = {1: DataType.FLOAT, 2: DataType.UINT8}  # onnx.TensorProto


class ILogger:
    """Base of loggers."""

    Severity = Severity


class FakeTensorRt:
    """The module ``tensorrt``.

    Attributes:
        compute: ``pixels`` -> outputs by name; what every engine computes.
        builds: how many engines were built.
        timings: the timing caches that builds began from.
        refuse_build, refuse_plan, refuse_run: faults to come.
        ran: (profile, batch) of every execution.
    """

    def __init__(self, compute: Callable, version: str = "10.16.1.11") -> None:
        self.__version__ = version
        self.compute = compute
        self.builds = 0
        self.timings: list[bytes] = []
        self.refuse_build = self.refuse_plan = self.refuse_run = False
        self.ran: list[tuple[int, int]] = []
        self.ILogger = ILogger
        self.DataType = DataType
        self.BuilderFlag = BuilderFlag
        self.NetworkDefinitionCreationFlag = CreationFlag
        self.ExecutionContextAllocationStrategy = Strategy
        self.Builder = lambda logger: Builder(self, logger)
        self.OnnxParser = Parser
        self.Runtime = lambda logger: Runtime(self, logger)

    def install(self, monkeypatch) -> None:
        """Let ``import tensorrt`` find this module."""
        monkeypatch.setitem(__import__("sys").modules, "tensorrt", self)


class FakeGpu(NamedTuple):
    """A machine with a GPU and TensorRT."""

    driver: FakeDriver
    trt: FakeTensorRt


def fake_gpu(monkeypatch) -> FakeGpu:
    """Put a driver and TensorRT on this machine; every engine computes what the tiny bundle's graph does."""
    gpu = FakeGpu(FakeDriver(), FakeTensorRt(reference))
    gpu.driver.install(monkeypatch)
    gpu.trt.install(monkeypatch)
    return gpu


class Builder:
    def __init__(self, trt, logger) -> None:
        self.trt, self.logger = trt, logger

    def create_network(self, flags):
        assert flags == 1 << CreationFlag.STRONGLY_TYPED, "a weakly typed network"
        return SimpleNamespace(tensors={})

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        assert config.timing_cache is not None, "no timing cache"
        self.trt.builds += 1
        if self.trt.refuse_build:
            self.logger.log(Severity.ERROR, "no kernel for node 7")
            return None
        self.trt.timings.append(config.timing_cache.content)
        flags = sorted(flag.name for flag in config.flags)
        plan = {"tensors": network.tensors, "profiles": config.profiles, "flags": flags}
        return memoryview(json.dumps(plan).encode())


class Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}  # set by default, as in TensorRT
        self.profiles: list[list[list[int]]] = []
        self.timing_cache = None

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def add_optimization_profile(self, profile):
        if profile.shapes is None:
            return -1
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, content):
        return SimpleNamespace(content=content, serialize=lambda: memoryview(b"timings"))

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        if cache.content not in {b"", b"timings"}:
            return False
        self.timing_cache = cache
        return True

    def get_timing_cache(self):
        return self.timing_cache


class Profile:
    shapes = None

    def set_shape(self, name, smallest, best, largest):
        assert name == "pixels"
        self.shapes = [list(smallest), list(best), list(largest)]


class Parser:
    def __init__(self, network, logger) -> None:
        self.network = network
        self.num_errors = 0

    def parse_from_file(self, path):
        try:
            graph = onnx.load(path).graph
        except DecodeError:
            self.num_errors = 1
            return False
        for value in (*graph.input, *graph.output):
            kind = value.type.tensor_type
            shape = [dim.dim_value or -1 for dim in kind.shape.dim]
            self.network.tensors[value.name] = [shape, NAMES[kind.elem_type].name]
        return True

    def get_error(self, index):
        assert index < self.num_errors
        return SimpleNamespace(node_operator=lambda: "Odd", node_name=lambda: "node_7", desc=lambda: "unknown operator")


class Runtime:
    def __init__(self, trt, logger) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, plan):
        if self.trt.refuse_plan:
            self.logger.log(Severity.ERROR, "the engine was built by another version")
            return None
        return Engine(self.trt, self.logger, json.loads(plan))


class Engine:
    def __init__(self, trt, logger, plan) -> None:
        self.trt, self.logger = trt, logger
        self.tensors, self.profiles = plan["tensors"], plan["profiles"]
        self.num_io_tensors = len(self.tensors)
        self.num_optimization_profiles = len(self.profiles)
        self.profiles_in_use: set[int] = set()

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_shape(self, name):
        return self.tensors[name][0]

    def get_tensor_dtype(self, name):
        return DataType[self.tensors[name][1]]

    def get_tensor_profile_shape(self, name, index):
        assert name == "pixels"
        return self.profiles[index]

    def create_execution_context(self, strategy):
        assert strategy is Strategy.ON_PROFILE_CHANGE
        return Context(self)


class Context:
    def __init__(self, engine) -> None:
        self.engine = engine
        self.profile = None
        self.shape = None
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index, stream):
        assert stream, "the default stream"
        assert index not in self.engine.profiles_in_use, "a profile of another context"
        self.engine.profiles_in_use.add(index)
        self.profile = index
        return True

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return name in self.engine.tensors

    def set_input_shape(self, name, shape):
        smallest, _, largest = self.engine.profiles[self.profile]
        if not all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True)):
            self.engine.logger.log(Severity.ERROR, "shape outside the profile")
            return False
        self.shape = tuple(shape)
        return True

    def execute_async_v3(self, stream):
        assert stream, "the default stream"
        assert self.addresses.keys() == self.engine.tensors.keys(), "a tensor without memory"
        trt = self.engine.trt
        if trt.refuse_run:
            self.engine.logger.log(Severity.ERROR, "launch failed")
            return False
        trt.ran.append((self.profile, self.shape[0]))
        size = int(np.prod(self.shape))
        pixels = np.frombuffer((ctypes.c_uint8 * size).from_address(self.addresses["pixels"]), np.uint8)
        for name, array in trt.compute(pixels.reshape(self.shape)).items():
            content = np.ascontiguousarray(array, np.float32).tobytes()
            ctypes.memmove(self.addresses[name], content, len(content))
        return True
