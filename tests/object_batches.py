"""Hypothesis strategies for batches of objects, and for the params of each mixer."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.tv_tensors import BoundingBoxFormat, is_rotated_bounding_format

from tests import painter
from tests.strategies import generator_of, seeds

FORMATS = tuple(BoundingBoxFormat)
# Params in sixteenths, of which λ and 1 − λ are exact.
sixteenths = st.integers(0, 16).map(lambda n: n / 16)


@dataclass(frozen=True)
class Form:
    """What all targets of a batch have in common."""

    regions: str = "boxes"  # or "masks", or "both"
    format: BoundingBoxFormat = BoundingBoxFormat.XYXY
    dtype: torch.dtype = torch.float32
    mask_dtype: torch.dtype = torch.bool
    points: int | None = None
    companions: bool = True
    weighted: bool = False
    semantic: torch.dtype | None = None

    @property
    def rotated(self):
        return is_rotated_bounding_format(self.format)


@st.composite
def forms(draw, *, regions=("boxes", "masks", "both"), formats=FORMATS, semantic=(None,)):
    chosen = draw(st.sampled_from(formats))
    dtypes = [torch.float32, torch.float64]
    if not is_rotated_bounding_format(chosen):
        dtypes += [torch.int64, torch.int32]
    return Form(
        regions=draw(st.sampled_from(regions)),
        format=chosen,
        dtype=draw(st.sampled_from(dtypes)),
        mask_dtype=draw(st.sampled_from([torch.bool, torch.uint8])),
        points=draw(st.sampled_from([None, 1, 3])),
        companions=draw(st.booleans()),
        weighted=draw(st.booleans()),
        semantic=draw(st.sampled_from(semantic)),
    )


@st.composite
def box_lists(draw, form, size, count):
    """Boxes inside, over the edge, outside and degenerate, in quarters of pixels or whole ones."""
    height, width = size
    whole = not form.dtype.is_floating_point
    steps = 1 if whole else 4
    rows = []
    for _ in range(count):
        x, y = (draw(st.integers(-2 * steps, (side + 1) * steps)) for side in (width, height))
        w, h = (draw(st.integers(0, (side + 2) * steps)) for side in (width, height))
        box = [value / steps for value in (x, y, w, h)]
        if form.rotated:
            # A tenth off the grid, so that no side lies along pixels' sides but for rounding.
            box[:2] = box[0] + 0.1, box[1] + 0.1
            rows.append([*box, draw(st.sampled_from([0, 17, 45, 90, -60, 120.5, 180]))])
        else:
            rows.append([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    if form.rotated:
        if form.format is BoundingBoxFormat.XYXYXYXY:
            rows = [painter.corners_of(row, "XYWHR").ravel().tolist() for row in rows]
        width_of_row = 8 if form.format is BoundingBoxFormat.XYXYXYXY else 5
        data = torch.tensor(rows, dtype=form.dtype).reshape(count, width_of_row)
    else:
        data = torch.tensor(rows, dtype=torch.float64).reshape(count, 4)
        if form.format is not BoundingBoxFormat.XYXY:
            data[:, 2:] -= data[:, :2]
        if form.format is BoundingBoxFormat.CXCYWH:
            data[:, :2] += (data[:, 2:] / 2).floor() if whole else data[:, 2:] / 2
    boxes = tv_tensors.BoundingBoxes(data.to(form.dtype), format=form.format, canvas_size=size)
    if hasattr(boxes, "clamping_mode"):
        boxes.clamping_mode = "hard"
    return boxes


@st.composite
def instance_masks(draw, form, size, count):
    """Masks that are empty, full, full of holes, or a ring."""
    masks = torch.zeros(count, *size, dtype=torch.bool)
    for mask in masks:
        kind = draw(st.sampled_from(["speckled", "ring", "full", "empty"]))
        if kind == "speckled":
            density = draw(st.sampled_from([0.1, 0.5, 0.9]))
            mask.copy_(torch.rand(size, generator=generator_of(draw(seeds))) < density)
        elif kind != "empty":
            mask.fill_(True)
            if kind == "ring":
                mask[1:-1, 1:-1] = False
    return tv_tensors.Mask(masks.to(form.mask_dtype))


@st.composite
def object_targets(draw, form, size, *, first_label, bare=False, max_objects=3):
    """One target, whose labels tell its objects from all others of the batch."""
    count = 0 if bare else draw(st.integers(0, max_objects))
    target = {"image_id": draw(st.sampled_from([3, torch.tensor([first_label])]))}
    if form.semantic is not None:
        plane = torch.randint(0, 5, size, generator=generator_of(draw(seeds)))
        target["semantic"] = tv_tensors.Mask(plane.to(form.semantic))
    if bare:
        return target
    if form.regions != "masks":
        target["boxes"] = draw(box_lists(form, size, count))
    if form.regions != "boxes":
        target["masks"] = draw(instance_masks(form, size, count))
    target["labels"] = torch.arange(first_label, first_label + count)
    if form.points is not None:
        places = [
            [(draw(st.integers(-4, 4 * side + 4)) / 4) for side in (size[1], size[0])]
            for _ in range(count * form.points)
        ]
        points = torch.tensor(places).reshape(count, form.points, 2)
        target["keypoints"] = tv_tensors.KeyPoints(points, canvas_size=size)
    if form.companions:
        target["area"] = torch.arange(count) + 0.5
        target["iscrowd"] = [n % 2 for n in range(count)]
        target["names"] = [f"object {first_label + n}" for n in range(count)]
        # As long as some batches' objects are many, and yet the image's own.
        target["orig_size"] = torch.tensor(size)
        target["scene"] = "a street"
    if form.weighted:
        shares = st.sampled_from([0.25, 0.5, 1.0])
        target["weights"] = torch.tensor([draw(shares) for _ in range(count)])
        if form.points is not None:
            rows = [[draw(shares) for _ in range(form.points)] for _ in range(count)]
            target["keypoint_weights"] = torch.tensor(rows).reshape(count, form.points)
    return target


@st.composite
def object_batches(
    draw, *, one_size=False, min_batch=1, max_batch=4, form=None, dtypes=None, colours=False
):
    """A pair (images, targets): a list, a tuple or a stack of images beside a list or a tuple.

    With ``colours`` image i is 1 in channel i and 0 in the others but for two, which tell places:
    its pixels tell what it became.
    """
    form = draw(forms() if form is None else form)
    count = draw(st.integers(min_batch, max_batch))
    one_size = one_size or draw(st.booleans())
    size = st.tuples(st.integers(1, 7), st.integers(1, 8))
    same = draw(size)
    sizes = [same if one_size else draw(size) for _ in range(count)]
    dtype = draw(st.sampled_from(dtypes or [torch.float32, torch.uint8]))
    channels = count if colours else draw(st.sampled_from([1, 3]))
    images = []
    for i, (height, width) in enumerate(sizes):
        if colours:
            image = torch.zeros(channels, height, width)
            image[i] = 1
            image = with_places(image)
        else:
            image = torch.rand(channels, height, width, generator=generator_of(draw(seeds)))
        images.append(image if dtype.is_floating_point else (image * 255).to(dtype))
    bare = [draw(st.sampled_from([False, False, False, True])) for _ in range(count)]
    bare[draw(st.integers(0, count - 1))] = False
    targets = [
        draw(object_targets(form, sizes[i], first_label=10 * i, bare=bare[i])) for i in range(count)
    ]
    wrap = draw(st.sampled_from([torch.Tensor, tv_tensors.Image]))
    if wrap is tv_tensors.Image:
        images = [tv_tensors.Image(image) for image in images]
    kind = draw(st.sampled_from(["list", "tuple", "stacked"] if one_size else ["list", "tuple"]))
    if kind == "stacked":
        images = torch.stack(images)
        images = tv_tensors.Image(images) if wrap is tv_tensors.Image else images
    elif kind == "tuple":
        images = tuple(images)
    return images, draw(st.sampled_from([list, tuple]))(targets)


@st.composite
def given_params(draw, kind, sizes):
    """Params for ``replay``: any partner but oneself, any geometry, gated off in some samples."""
    count = len(sizes)
    # A sample is never mixed with itself, unless it is there among several partners.
    off = [count == 1 or draw(st.integers(0, 7)) == 0 for _ in range(count)]
    others = [[j for j in range(count) if j != i] or [0] for i in range(count)]
    if kind.partners == 1:
        params = {"partner": torch.tensor([draw(st.sampled_from(those)) for those in others])}
    else:
        anybody = st.tuples(*[st.integers(0, count - 1)] * kind.partners)
        params = {"partner": torch.tensor([draw(anybody) for _ in range(count)])}
        if kind.canvas:  # where a stack is mixed as a whole or not at all
            off = [off[0] if len({*sizes}) == 1 else gated for gated in off]
    return {**params, kind.geometry: draw(_GEOMETRIES[kind.geometry](kind, sizes, off))}


@st.composite
def _lams(draw, kind, sizes, off):
    return torch.tensor([1.0 if gated else draw(sixteenths) for gated in off])


@st.composite
def _masks(draw, kind, sizes, off):
    masks = []
    canvas = [max(lengths) for lengths in zip(*sizes, strict=True)]
    for gated in off:
        density = 1 if gated else draw(st.sampled_from([0, 0.3, 0.5, 0.9]))
        masks.append(torch.rand(canvas, generator=generator_of(draw(seeds))) < density)
    return torch.stack(masks)


@st.composite
def _boxes(draw, kind, sizes, off):
    boxes = []
    for gated, (height, width) in zip(off, sizes, strict=True):
        xs, ys = (
            sorted(draw(st.tuples(st.integers(0, side), st.integers(0, side))))
            for side in (width, height)
        )
        boxes.append([0, 0, 0, 0] if gated else [xs[0], ys[0], xs[1], ys[1]])
    return torch.tensor(boxes)


@st.composite
def _centres(draw, kind, sizes, off):
    centres = []
    for gated, size in zip(off, sizes, strict=True):
        height, width = kind.canvas or size
        x, y = draw(st.integers(0, width)), draw(st.integers(0, height))
        # The far corner says that a sample is not mixed.
        mixed = (x, y - 1) if (x, y) == (width, height) else (x, y)
        centres.append((width, height) if gated else mixed)
    return torch.tensor(centres)


_GEOMETRIES = {"lam": _lams, "mask": _masks, "box": _boxes, "centre": _centres}


def with_places(image):
    """Add two channels that tell each pixel's column and row."""
    height, width = image.shape[-2:]
    column, row = torch.arange(1.0, width + 1), torch.arange(1.0, height + 1)
    places = column.expand(1, height, width), row.view(-1, 1).expand(1, height, width)
    return torch.cat((image, *places))
