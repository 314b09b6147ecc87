"""Hypothesis strategies for batches and λ."""

import math

import torch
from hypothesis import strategies as st

from mixup_transforms._batch.parse import is_ids

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

SMALLEST = 2.0**-149
BELOW_ONE = 1 - 2.0**-24

lams = st.one_of(
    st.sampled_from([0.0, 1.0, SMALLEST, 2.0**-126, BELOW_ONE, 0.5, math.nextafter(0.5, 0)]),
    st.floats(0, 1, width=32),
)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 9)
inner_shapes = st.one_of(
    st.just(()),
    st.tuples(sizes),
    st.tuples(sizes, sizes),
    st.tuples(st.integers(1, 4), sizes, sizes),
    st.tuples(st.integers(1, 3), st.integers(1, 3), sizes, sizes),
)
spatial_shapes = st.one_of(
    st.tuples(sizes, sizes),
    st.tuples(st.integers(1, 4), sizes, sizes),
    st.tuples(st.integers(1, 3), st.integers(1, 3), sizes, sizes),
)
# No row of classes is as long as these, which is what soft_labels has four of.
steps = sizes.filter(lambda length: length != 4)
sequence_shapes = st.one_of(
    st.tuples(steps),
    st.tuples(st.integers(1, 4), steps),
    st.tuples(st.integers(1, 4), sizes, steps),
)
volume_shapes = st.one_of(
    st.tuples(sizes, sizes, sizes),
    st.tuples(st.integers(1, 3), st.integers(1, 4), sizes, sizes),
)
layouts = st.sampled_from(["contiguous", "channels_last", "strided", "transposed"])


def generator_of(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(shape, dtype, seed):
    """Random values over a range that the dtype can hold."""
    generator = generator_of(seed)
    if dtype.is_floating_point:
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * 100).to(dtype)
    limits = torch.iinfo(dtype)
    low, high = max(limits.min, -(2**31)), min(limits.max, 2**31 - 1)
    return torch.randint(low, high + 1, shape, generator=generator).to(dtype)


def laid_out(values, layout):
    """The same values in another memory layout."""
    if layout == "channels_last" and values.ndim == 4:
        return values.contiguous(memory_format=torch.channels_last)
    if layout == "strided" and values.ndim > 1:
        return values.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == "transposed" and values.ndim > 1:
        return values.transpose(0, -1).contiguous().transpose(0, -1)
    return values


def image_like(x):
    """The same values in a dtype that is taken for images: wide integers may be ids."""
    return x.double() if is_ids(x) else x


@st.composite
def images(draw, inner=inner_shapes, dtypes=FLOATS + INTEGERS, min_batch=0, max_batch=6):
    shape = (draw(st.integers(min_batch, max_batch)), *draw(inner))
    values = noise(shape, draw(st.sampled_from(dtypes)), draw(seeds))
    return laid_out(values, draw(layouts))


def shapes_for(case):
    """The inner shapes that a case can take."""
    if not case.spatial:
        return inner_shapes
    return {1: sequence_shapes, 2: spatial_shapes, 3: volume_shapes}[case.dims]


def images_for(case, **limits):
    """Batches that a case can take."""
    return images(shapes_for(case), **limits).map(image_like)


def soft_labels(batch, classes=4, seed=0):
    generator = generator_of(seed)
    return torch.rand(batch, classes, generator=generator).softmax(dim=1)
