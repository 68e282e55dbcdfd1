"""Tensors in the CPU's memory that claim to be on an accelerator, checked as strictly as that would check them.

Every function of torch that is called from Python is looked at: its tensors must be of one device, what it returns is
of that device, and what the host cannot reach (`numpy`) is refused. A factory that is told no device makes a tensor
of the CPU, which is refused where it meets one of the accelerator. What makes the host wait is written down.
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")
_PRETENDED = ("cuda", "mps")
_CLAIM = "_claimed_device"
# They take tensors of two devices, or none of their arguments says where the result is.
_BETWEEN_DEVICES = {"to", "cpu", "cuda", "copy_", "type_as", "_has_compatible_shallow_copy_type"}
_OUT_OF_REACH = {"numpy", "__array__", "data_ptr", "share_memory_", "__cuda_array_interface__"}
_WAITS = {"item", "__float__", "__int__", "__bool__", "__index__", "tolist", "nonzero", "masked_select", "equal"}
_COPIES_FROM_HOST = {"tensor", "new_tensor", "as_tensor"}
GIGABYTE = 1_000_000_000
# Names of operations of torch 2.5's core, with overloads, that have a kernel for Apple's devices or are made of such.
_LIST = Path(__file__).with_name("mps_operations.txt")
MPS_OPERATIONS = frozenset(
    line for line in _LIST.read_text(encoding="utf-8").split("\n") if line[:1] not in ("", "#")
)


# What torch takes on the CPU alone, and what it stands for.
_OF_THE_CPU = {"_scaled_dot_product_flash_attention_for_cpu": "scaled_dot_product_attention"}


class MeetingDevicesError(AssertionError):
    """Tensors of two devices meet in one operation, or the host reaches for what is on the device."""


class NotOnMpsError(AssertionError):
    """An operation that Apple's devices do not have."""


def claimed(tensor):
    """The device a tensor claims to be on."""
    return getattr(tensor, _CLAIM, CPU)


def claim(tensor, device):
    """Say where a tensor is."""
    if device.type in _PRETENDED:
        setattr(tensor, _CLAIM, device)
    elif hasattr(tensor, _CLAIM):
        delattr(tensor, _CLAIM)
    return tensor


def indexed(device):
    """A device with its number, as torch gives it to a tensor."""
    device = torch.device(device)
    return torch.device(device.type, 0) if device.type in _PRETENDED and device.index is None else device


@dataclass
class Pretence(TorchFunctionMode):
    """While it is entered, tensors may be moved to cuda and mps.

    Attributes:
        waits: names of the calls that made the host wait for the device, one after the other.
        allowed: names of the operations that the device has; None for all.
    """

    waits: list = field(default_factory=list)
    allowed: frozenset | None = None

    def __post_init__(self):
        super().__init__()

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = dict(keywords or {})
        name = _name(function)
        tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, torch.Tensor)]
        if name in ("__get__", "__set__", "__delete__"):
            return self._attribute(function, name, arguments)
        if name in ("get_device", "is_cuda", "is_mps"):
            msg = f"{name} is not pretended"
            raise NotImplementedError(msg)
        if name in ("to", "cpu", "cuda"):
            return self._moved(function, name, arguments, keywords)
        device = self._common_device(name, tensors)
        self._note_waiting(name, device, arguments)
        if name == "copy_" and claimed(arguments[0]) != claimed(arguments[1]):
            self.waits.append(name)
        if name == "copy_":
            device = claimed(arguments[0])
        asked = keywords.get("device")
        if asked is not None:
            device = indexed(asked)
            if device.type in _PRETENDED:
                keywords["device"] = CPU
                if name in _COPIES_FROM_HOST:
                    self.waits.append(name)
        elif name == "new_tensor" and device != CPU:
            self.waits.append(name)
        with _Operations(self, device):
            result = function(*arguments, **keywords)
        return self._claimed_result(result, device, name)

    def _attribute(self, function, name, arguments):
        """Read or set an attribute such as `device` or `data`."""
        attribute = getattr(getattr(function, "__self__", None), "__name__", "")
        tensor = arguments[0]
        if name == "__get__" and attribute == "device":
            return claimed(tensor) if claimed(tensor) != CPU else function(*arguments)
        if name == "__get__" and attribute in ("is_cuda", "is_mps", "is_cpu"):
            return claimed(tensor).type == attribute.removeprefix("is_")
        result = function(*arguments)
        if name == "__set__" and isinstance(arguments[1], torch.Tensor):
            claim(tensor, claimed(arguments[1]))
        if isinstance(result, torch.Tensor) and result is not tensor:
            claim(result, claimed(tensor))
        return result

    def _moved(self, function, name, arguments, keywords):
        """Return a tensor on another device or of another type."""
        tensor, *rest = arguments
        source, target = claimed(tensor), claimed(tensor)
        if name in ("cpu", "cuda"):
            target = indexed(name)
            rest = []
        for index, value in enumerate(rest):
            if isinstance(value, (str, torch.device)):
                target, rest[index] = indexed(value), CPU
            elif isinstance(value, torch.Tensor):
                target = claimed(value)
        if "device" in keywords:
            target = indexed(keywords["device"]) if keywords["device"] is not None else target
            keywords["device"] = CPU
        if target.type not in (*_PRETENDED, "cpu"):
            return function(*arguments, **{**keywords, "device": target} if "device" in keywords else keywords)
        if source.type in _PRETENDED and name != "cpu" and not rest and "dtype" not in keywords and not keywords:
            msg = f"{name} without arguments"
            raise NotImplementedError(msg)
        result = tensor if name in ("cpu", "cuda") else function(tensor, *rest, **keywords)
        if source != target:
            self.waits.append(name)
            result = result.clone() if result is tensor else result
        return self._claimed_result(result, target, name)

    def _common_device(self, name, tensors):
        """Return the one device of the tensors.

        Raises:
            MeetingDevicesError: there are two, or the host cannot reach them.
        """
        devices = {claimed(tensor) for tensor in tensors}
        device = next((each for each in devices if each.type in _PRETENDED), CPU)
        if device != CPU and name in _OUT_OF_REACH:
            msg = f"{name} of a tensor on {device}"
            raise MeetingDevicesError(msg)
        if name in _BETWEEN_DEVICES:
            return device
        # A single number of the CPU is passed along like one of Python.
        others = {claimed(tensor) for tensor in tensors if claimed(tensor) != CPU or tensor.ndim}
        if len(others) > 1:
            msg = f"tensors of {sorted(map(str, others))} meet in {name}"
            raise MeetingDevicesError(msg)
        return device

    def _note_waiting(self, name, device, arguments):
        if device == CPU:
            return
        masked = name in ("__getitem__", "__setitem__") and any(
            isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(arguments[1])
        )
        if masked or name in _WAITS:
            self.waits.append(name)

    def _claimed_result(self, result, device, name):
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                if device.type == "mps" and leaf.dtype in (torch.float64, torch.complex128):
                    msg = f"{name} makes a tensor of float64, which mps does not have"
                    raise NotOnMpsError(msg)
                claim(leaf, device)
        return result


class _Operations(TorchDispatchMode):
    """Refuses operations of torch's core that the device does not have, whatever function they are part of."""

    def __init__(self, pretence, device):
        super().__init__()
        self._pretence, self._device = pretence, device
        self._checks = device != CPU and pretence.allowed is not None

    def __enter__(self):
        return super().__enter__() if self._checks else self

    def __exit__(self, *exception):
        return super().__exit__(*exception) if self._checks else None

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.name().removeprefix("aten::")
        name = _OF_THE_CPU.get(name, name)
        if name not in self._pretence.allowed:
            msg = f"{name} runs on {self._device}, which does not have it"
            raise NotOnMpsError(msg)
        return function(*arguments, **(keywords or {}))


def _name(function):
    name = getattr(function, "__name__", "") or str(function)
    return name or resolve_name(function)


def _wrapped(function):
    """A function that has what torch reads of the one it stands for, which keeps its answer."""
    function.__wrapped__ = function
    return function


@contextlib.contextmanager
def pretended(monkeypatch, device_type="cuda", allowed=None, count=2):
    """Let torch find `count` devices of a type; give the `Pretence`, which is entered."""
    autocast = torch.autocast

    def on_cpu(kind, dtype=None, enabled=True, **more):
        return autocast("cpu" if kind in _PRETENDED else kind, dtype=dtype, enabled=enabled, **more)

    def checked(value):
        """A question about a device must name it with its number, as older versions of torch require."""

        def answer(device=None):
            if torch.device(device).index is None:
                msg = f"{device} has no number"
                raise ValueError(msg)
            return value

        return answer

    with monkeypatch.context() as patch:
        patch.setattr(torch, "autocast", on_cpu)
        # In inference mode an operation made of others comes whole to the list of what a device has.
        patch.setattr(
            torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
        )
        patch.setattr(torch.cuda, "is_available", lambda: device_type == "cuda")
        patch.setattr(torch.cuda, "device_count", lambda: count if device_type == "cuda" else 0)
        patch.setattr(torch.cuda, "current_device", lambda: 0)
        patch.setattr(torch.backends.mps, "is_available", _wrapped(lambda: device_type == "mps"))
        properties = type("Properties", (), {"total_memory": 8 * GIGABYTE})
        for name, value in {
            "memory_reserved": 0,
            "memory_allocated": 0,
            "max_memory_allocated": GIGABYTE,
            "reset_peak_memory_stats": None,
            "mem_get_info": (6 * GIGABYTE, 8 * GIGABYTE),
            "get_device_name": "Pretended",
            "get_device_capability": (8, 0),
            "get_device_properties": properties,
            "synchronize": None,
        }.items():
            patch.setattr(torch.cuda, name, checked(value))
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(torch.mps, "empty_cache", lambda: None)
        pretence = Pretence(allowed=allowed)
        with pretence:
            yield pretence
