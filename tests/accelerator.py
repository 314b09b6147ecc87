"""A pretend accelerator: tensors on a device of their own, whose values the CPU computes.

    with Accelerator() as accelerator:
        x = accelerator.put(torch.rand(8, 3, 32, 32))
        mixed = mix(x, labels)
        accelerator.launches.total(), len(accelerator.copies)  # what the call cost
    accelerator.take(mixed)  # the values, on the CPU

It is at least as strict as CUDA: a look at a value, a shape that depends on values and a blocking
copy are errors, since the host would wait for them, and so is a tensor in the host's memory among
those on the device.
"""

from collections import Counter
from contextlib import contextmanager
from functools import partial

import torch
import torch._lazy.ts_backend
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torchvision import tv_tensors

# The one device beside the CPU that torch lets any machine allocate on and differentiate on.
torch._lazy.ts_backend.init()
DEVICE = torch.device("lazy", 0)

aten = torch.ops.aten
COPIES = {aten._to_copy, aten.copy_}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# Number by number, a device takes what lies in the host's memory as an argument of its launch.
TAKES_NUMBERS = {aten.masked_fill, aten.masked_fill_, aten.fill_}
KNOWN_TO_THE_HOST = {aten.is_pinned, aten.is_same_size}
WAIT = "wait"
ALLOCATIONS = {
    *(aten.empty, aten.empty_like, aten.empty_strided, aten.empty_permuted),
    *(aten.new_empty, aten.new_empty_strided),
}


class HostWaitsError(RuntimeError):
    """The host would wait for the device."""


class TooEarlyError(RuntimeError):
    """The host would read what the device may not have written yet."""


class DeviceMixError(RuntimeError):
    """One operation was given tensors of the device and of the host."""


class OnDevice(Tensor):
    """A tensor on the device; ``values`` are its values, in the host's memory."""

    kind = Tensor
    made_as = None  # the class that the next result gets
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values):
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        made = Tensor._make_wrapper_subclass(
            OnDevice.made_as or cls, values.shape, dtype=values.dtype, device=DEVICE, **layout
        )
        made.values = values
        return made

    def __repr__(self):
        return f"{type(self).__name__}({self.values})"

    def as_subclass(self, cls):
        """Change torchvision's type, which torch allows no tensor without memory of its own."""
        OnDevice.made_as = TYPED.get(cls, cls)
        try:
            return aten.alias(self)
        finally:
            OnDevice.made_as = None

    def tolist(self):
        """Copy to the host first, as torch does for devices but not for subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on a pretend accelerator that is switched off")


TYPED = {
    Tensor: OnDevice,
    **{
        kind: type(f"{kind.__name__}OnDevice", (OnDevice, kind), {"kind": kind})
        for kind in (
            *(tv_tensors.Image, tv_tensors.Mask, tv_tensors.Video),
            *(tv_tensors.BoundingBoxes, tv_tensors.KeyPoints),
        )
    },
}


def with_metadata(tensor, like):
    """Give a tensor what torchvision notes beside another's values, such as a canvas size."""
    vars(tensor).update({name: value for name, value in vars(like).items() if name != "values"})
    return tensor


class Accelerator(TorchDispatchMode):
    """Runs what has to do with its device, refuses what CUDA would stall on, and counts.

    Attributes:
        launches: how often each operation ran on the device; views and allocations are none.
        copies: the bytes of each copy from the host.
        log: for each launch the dtypes of what it returned, and ``WAIT`` for each time that the
            host has waited where it may, in ``waiting()``.
        trace: for each operation on the device, views and allocations too, its name and the shapes
            and dtypes of what it returned: all that a CUDA graph holds fast, but for the values.
    """

    def __init__(self):
        super().__init__()
        self.launches = Counter()
        self.copies = []
        self.log = []
        self.trace = []
        self._may_wait = False

    @property
    def waits(self):
        """How often the host has waited."""
        return self.log.count(WAIT)

    def put(self, tree):
        """Return the same tensors on the device, without a copy that counts."""

        def onto_device(tensor):
            values = tensor.as_subclass(Tensor).detach().clone()
            made = TYPED[type(tensor)](values).requires_grad_(tensor.requires_grad)
            return with_metadata(made, tensor)

        return tree_map_only(Tensor, onto_device, tree)

    def take(self, tree):
        """Return the same tensors on the host, without a wait that counts."""

        def onto_host(tensor):
            return with_metadata(tensor.values.clone().as_subclass(tensor.kind), tensor)

        return tree_map_only(OnDevice, onto_host, tree)

    def __enter__(self):
        # Else torch.tensor makes and copies what it is given out of this mode's sight.
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *raised):
        torch._C._set_only_lift_cpu_tensors(self._lifted)
        return super().__exit__(*raised)

    @contextmanager
    def waiting(self):
        """Let the host wait for a while."""
        self._may_wait = True
        try:
            yield
        finally:
            self._may_wait = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        wanted = kwargs.get("device")
        lands_here = (
            isinstance(args[0], OnDevice) if func.overloadpacket is aten.copy_ else bool(ours)
        )
        if wanted is not None:
            lands_here = wanted.type == DEVICE.type
        if not ours and not lands_here:
            return func(*args, **kwargs)
        copied = func.overloadpacket in COPIES and (len(ours) < len(tensors) or not lands_here)
        if copied:
            self._check_copy(func, args, kwargs, lands_here)
        else:
            self._check_launch(func, tensors, ours, args, kwargs)
        inner_args, inner_kwargs = tree_map_only(OnDevice, lambda t: t.values, (args, kwargs))
        if wanted is not None:
            inner_kwargs["device"] = torch.device("cpu")
        result = func(*inner_args, **inner_kwargs)
        if not lands_here:
            return result
        forms = [(*t.shape, t.dtype) for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.trace.append((str(func), forms))
        if not copied and is_work(func, ours, result):
            self.launches[str(func.overloadpacket)] += 1
            self.log.append({dtype for *_, dtype in forms})
        # What was written into is returned itself.
        known = {id(tensor.values): tensor for tensor in ours}
        return tree_map_only(Tensor, partial(on_device, known=known), result)

    def _check_copy(self, func, args, kwargs, onto_device):
        source = args[1] if func.overloadpacket is aten.copy_ else args[0]
        non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        if onto_device:
            self.copies.append(source.numel() * source.element_size())
        if not non_blocking:
            self._wait(f"{func} of {tuple(source.shape)} is a copy that blocks")
        elif not onto_device:
            raise TooEarlyError(
                f"{func} to the host does not block: its values may not be there yet"
            )

    def _check_launch(self, func, tensors, ours, args, kwargs):
        packet, tags = func.overloadpacket, func.tags
        host = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
        if packet in INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self._wait(f"{func} counts the true places of a mask")
            if any(not isinstance(index, OnDevice) for index in indices):
                self._wait(f"{func} copies an index from the host")
                host = [t for t in host if not any(t is index for index in indices)]
        elif torch.Tag.dynamic_output_shape in tags and kwargs.get("output_size") is None:
            self._wait(f"the shape of what {func} returns depends on values")
        elif returns_a_value(func) and packet not in KNOWN_TO_THE_HOST:
            self._wait(f"{func} looks at a value")
        if torch.Tag.pointwise in tags or packet in TAKES_NUMBERS:
            host = [tensor for tensor in host if tensor.ndim]
        if host and ours:
            shapes = [tuple(tensor.shape) for tensor in host]
            raise DeviceMixError(
                f"{func} got tensors of the host, of shapes {shapes}, among its own"
            )
        if isinstance(kwargs.get("generator"), torch.Generator):
            raise DeviceMixError(f"{func} got a generator of the host")

    def _wait(self, why):
        if not self._may_wait:
            raise HostWaitsError(why)
        self.log.append(WAIT)


def assert_as_on_cpu(accelerator, result, expected, *, last_bits=2):
    """Compare what is on the device with what the CPU got.

    Results of a resize differ in the last bits from way to way, of which integers are rounded.
    """
    for leaf, value in zip(tree_leaves(result), tree_leaves(expected), strict=True):
        if not isinstance(value, Tensor):
            assert leaf == value
            continue
        assert leaf.device == DEVICE
        taken = accelerator.take(leaf)
        assert type(taken) is type(value)
        assert taken.dtype == value.dtype
        assert vars(taken) == vars(value)
        slack = float(last_bits > 2)
        if value.is_floating_point():
            largest = value.nan_to_num().abs().max().item() if value.numel() else 0
            slack = last_bits * torch.finfo(value.dtype).eps * largest
        taken, value = (v.as_subclass(Tensor).double() for v in (taken, value))
        torch.testing.assert_close(taken, value, rtol=0, atol=slack, equal_nan=True)


def on_device(values, *, known):
    return known[id(values)] if id(values) in known else OnDevice(values)


def returns_a_value(func):
    return any("Tensor" not in str(returned.type) for returned in func._schema.returns)


def is_work(func, inputs, result):
    """Whether an operation computes or writes at all: views and allocations do not."""
    if func.overloadpacket in ALLOCATIONS:
        return False
    given = {tensor.values.untyped_storage().data_ptr() for tensor in inputs}
    results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.numel()]
    written = func._schema.is_mutable and bool(results)
    return written or any(t.untyped_storage().data_ptr() not in given for t in results)
