"""The forms of batches."""

from collections import UserDict
from functools import partial

import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors

from mixup_transforms import LabelMixture
from tests.what_goes.batches import (
    BATCH,
    CLASSES,
    DEPTH,
    FEATURES,
    FRAMES,
    HEIGHT,
    WIDTH,
    lettered,
)
from tests.what_goes.calls import COMPILED, MIX_COLLATE, MIXED_DATASET, ON_DEVICE
from tests.what_goes.form import Detection, Form, Refusal

# What a batch holds, for the samples of some numbers


def painted(*dims, dtype=torch.float32):
    """Images of one colour each."""

    def paint(numbers):
        colours = {torch.bool: numbers % 2, torch.uint8: 20 * numbers}.get(dtype, numbers / 8)
        return colours.to(dtype).view(-1, *(1 for _ in dims)).repeat(1, *dims)

    return paint


pictures = painted(3, HEIGHT, WIDTH)


def images(numbers):
    return tv_tensors.Image(pictures(numbers))


def videos(numbers):
    return tv_tensors.Video(painted(FRAMES, 3, HEIGHT, WIDTH)(numbers))


def one_hot(numbers):
    return torch.eye(CLASSES)[numbers]


def mixtures(numbers):
    return LabelMixture(numbers[:, None], torch.ones(len(numbers), 1))


def masks(numbers):
    return tv_tensors.Mask(numbers[:, None, None].repeat(1, HEIGHT, WIDTH))


def soft_maps(numbers):
    return one_hot(numbers)[:, :, None, None].repeat(1, 1, HEIGHT, WIDTH)


def soft_masks(numbers, step=1):
    return tv_tensors.Mask(soft_maps(numbers)[..., ::step, ::step])


def whole(size, kinds):
    """One object that is the whole image."""
    height, width = size
    made = {
        "boxes": tv_tensors.BoundingBoxes(
            [[0, 0, width, height]], format="XYXY", canvas_size=size, dtype=torch.float32
        ),
        "masks": tv_tensors.Mask(torch.ones(1, height, width, dtype=torch.bool)),
        "keypoints": tv_tensors.KeyPoints([[[1.0, 1.0]]], canvas_size=size),
    }
    return {kind: made[kind] for kind in kinds}


def boxes(numbers):
    return tv_tensors.BoundingBoxes(
        torch.tensor([[1, 1, 5, 5]]).repeat(len(numbers), 1),
        format="XYXY",
        canvas_size=(HEIGHT, WIDTH),
    )


# What refuses it

NEEDS_SPACE = Refusal(ValueError, "images … must have shape (B, …, H, W)", "spatial")
NEEDS_PLANES = Refusal(ValueError, "masks … must have shape (B, …, H, W)", "spatial")
NEEDS_ONE_SIZE = Refusal(ValueError, "… needs images and masks of one height and width", "spatial")
NEEDS_NUMBERS = Refusal(
    TypeError, "images … must be a floating or integer tensor to be mixed", "averages"
)
NEEDS_PROBABILITIES = Refusal(
    ValueError, "masks … must be floating to be mixed, … apply OneHot(num_classes)", "blends_masks"
)

NEEDS_LIKE_IMAGES = Refusal(ValueError, "… needs images of one height and width", "one_size")
ZIP = "lambda samples: tuple(zip(*samples))"
ZIPS = Refusal(TypeError, f"samples hold objects, … give collate_fn={ZIP}")


def needs_soft(way_out):
    return Refusal(ValueError, f"labels … must be floating to be mixed, … {way_out}")


# The forms

SOFT = "float32 (B, C)"


def pair(name, images, labels, *refused, becomes=None, **more):
    """A form of ``(images, labels)``."""
    return Form(
        name,
        lambda numbers: (images(numbers), labels(numbers)),
        refused,
        labels={(1,): becomes},
        **more,
    )


def classified(name, images, *refused, size=BATCH, **more):
    """A form of images and the indices of their classes."""
    return pair(
        name,
        images,
        Tensor.clone,
        *refused,
        becomes=f"float32 {lettered((size, CLASSES))}",
        settings={"num_classes": CLASSES},
        size=size,
        **more,
    )


def keyed(name, make, *refused, images, masks=(), **settings):
    """A form of a mapping with the indices of classes under "label"."""
    return Form(
        name,
        lambda numbers: make(numbers, numbers.clone()),
        refused,
        images=tuple((key,) for key in images),
        labels={("label",): SOFT, **{(key,): None for key in masks}},
        settings={"num_classes": CLASSES, **settings},
    )


def detection(name, *kinds, sizes=((HEIGHT, WIDTH),), stacked=False):
    """A form of images and a list of their targets."""

    def pair_of(number):
        size = sizes[number % len(sizes)]
        image = painted(3, *size)(torch.tensor([number]))[0]
        return image, {"image_id": number, **whole(size, kinds), "labels": torch.tensor([number])}

    def batch_of(samples):
        images, targets = map(list, zip(*samples, strict=True))
        return torch.stack(images) if stacked else images, targets

    return Detection(
        name,
        lambda numbers: batch_of([*map(pair_of, numbers.tolist())]),
        () if len(sizes) == 1 else (NEEDS_LIKE_IMAGES,),
        # Where images differ in size, a canvas may be larger than what could be written into.
        images=((0,),) if stacked else tuple((0, i) for i in range(BATCH) if len(sizes) == 1),
        elsewhere={MIX_COLLATE: ZIPS},
        # Compiling what reads objects takes seconds, and the pretend accelerator has no boxes.
        untried=(ON_DEVICE, COMPILED),
        sample_of=lambda batch, i: (batch[0][i], batch[1][i]),
        batch_of=batch_of,
        alike=len(sizes) == 1,
    )


FORMS = [
    classified("images and class indices", pictures),
    classified("images of bytes", painted(3, HEIGHT, WIDTH, dtype=torch.uint8)),
    classified("images in half precision", painted(3, HEIGHT, WIDTH, dtype=torch.float16)),
    classified("images without channels, spectrograms", painted(HEIGHT, WIDTH)),
    classified("`Image`", images),
    classified("`Video`", videos),
    classified("sequences", painted(3, FRAMES), dims=1, inner=(3, FRAMES)),
    classified("sequences without channels", painted(FRAMES), NEEDS_SPACE, dims=1, inner=(FRAMES,)),
    pair(
        "`Mask` of a class at each step",
        painted(3, FRAMES),
        lambda numbers: tv_tensors.Mask(numbers[:, None].repeat(1, FRAMES)),
        NEEDS_PLANES,
        NEEDS_PROBABILITIES,
        dims=1,
        inner=(3, FRAMES),
    ),
    classified(
        "volumes", painted(1, DEPTH, HEIGHT, WIDTH), dims=3, inner=(1, DEPTH, HEIGHT, WIDTH)
    ),
    pair(
        "`Mask` of a class in each voxel",
        painted(1, DEPTH, HEIGHT, WIDTH),
        lambda n: tv_tensors.Mask(n.view(-1, 1, 1, 1).repeat(1, DEPTH, HEIGHT, WIDTH)),
        NEEDS_PROBABILITIES,
        dims=3,
        inner=(1, DEPTH, HEIGHT, WIDTH),
    ),
    classified("rows of a table, embeddings", painted(FEATURES), NEEDS_SPACE),
    classified("0/1 images", painted(1, HEIGHT, WIDTH, dtype=torch.bool), NEEDS_NUMBERS),
    classified("a batch of one", pictures, size=1),
    classified(
        "an empty batch",
        pictures,
        size=0,
        elsewhere={
            MIX_COLLATE: Refusal(ValueError, "samples must hold at least one sample, got none"),
            MIXED_DATASET: Refusal(IndexError, "index must lie in [0, 0)"),
        },
    ),
    pair("one-hot rows, soft labels", pictures, one_hot),
    pair("soft labels in half precision", pictures, lambda n: one_hot(n).half(), becomes=SOFT),
    pair("numbers to predict", pictures, painted(1)),
    pair("`LabelMixture`", pictures, mixtures),
    pair("a soft label of each pixel", pictures, soft_maps),
    pair("`Mask` of class probabilities", images, soft_masks),
    pair("`Mask` of class indices", images, masks, NEEDS_PROBABILITIES),
    pair("`Mask` of another size", images, partial(soft_masks, step=2), NEEDS_ONE_SIZE),
    Form("images alone", pictures, images=((),), settings={"labels_getter": None}),
    Form(
        "labels in a dict",
        lambda numbers: (pictures(numbers), {"id": numbers.clone(), "label": one_hot(numbers)}),
        labels={(1, "label"): None},
    ),
    keyed(
        "a dict with a well-known key",
        lambda n, label: {"id": n, "image": pictures(n), "label": label},
        images=["image"],
    ),
    keyed(
        "another mapping",
        lambda n, label: UserDict({"pixel_values": pictures(n), "label": label}),
        images=["pixel_values"],
    ),
    keyed(
        "images, masks and classes",
        lambda n, label: {"image": images(n), "mask": masks(n), "label": label},
        NEEDS_PROBABILITIES,
        images=["image"],
        masks=["mask"],
    ),
    keyed(
        "several images, named",
        lambda n, label: {"left": pictures(n), "right": 1 - pictures(n), "label": label},
        images=["left", "right"],
        images_getter=["left", "right"],
    ),
    keyed(
        "several images of two sizes, named",
        lambda n, label: {"near": pictures(n), "far": painted(3, 2, 2)(n), "label": label},
        NEEDS_ONE_SIZE,
        images=["near", "far"],
        images_getter=["near", "far"],
    ),
    keyed(
        "several images, not named",
        lambda n, label: {"image": pictures(n), "depth": painted(1, 2, 2)(n), "label": label},
        Refusal(ValueError, "… would be left as it is, but looks like images; … images_getter="),
        images=["image", "depth"],
    ),
    classified(
        "token ids",
        lambda numbers: numbers[:, None].repeat(1, FRAMES),
        Refusal(ValueError, "… an index or token ids, and no image: … mix embeddings of tokens"),
    ),
    classified(
        "NumPy arrays",
        lambda numbers: pictures(numbers).numpy(),
        Refusal(TypeError, "… is a NumPy array … torch.from_numpy(array)"),
        elsewhere={MIX_COLLATE: None, MIXED_DATASET: None},
    ),
    classified(
        "PIL images",
        lambda numbers: PIL.Image.new("RGB", (WIDTH, HEIGHT)),
        Refusal(TypeError, "… got a PIL image … convert each image with v2.ToImage()"),
        elsewhere={MIX_COLLATE: Refusal(TypeError, "… must not be a PIL image; … v2.ToImage()")},
    ),
    Form("images, and no labels", pictures, (Refusal(ValueError, "no labels found"),)),
    pair("no `num_classes`", pictures, Tensor.clone, needs_soft("apply OneHot(num_classes)")),
    pair("a column of indices", pictures, lambda n: n[:, None], needs_soft("labels.squeeze(1)")),
    pair(
        "rows of integers",
        pictures,
        lambda numbers: one_hot(numbers).long(),
        needs_soft("labels.float()"),
        elsewhere={ON_DEVICE: needs_soft("apply OneHot(num_classes)")},  # values are not read
    ),
    pair(
        "rows of 0/1",
        pictures,
        lambda numbers: one_hot(numbers) > 0,
        Refusal(TypeError, "labels … must be floating or integer, got bool"),
    ),
    pair(
        "a mask without its type",
        pictures,
        lambda numbers: masks(numbers).as_subclass(Tensor),
        needs_soft("wrap a segmentation mask in tv_tensors.Mask"),
    ),
    pair(
        "boxes without a target for each image",
        pictures,
        boxes,
        Refusal(TypeError, f"… takes BoundingBoxes in a list … with {ZIP}"),
        elsewhere={
            MIX_COLLATE: Refusal(TypeError, f"what is collated must not be BoundingBoxes, … {ZIP}"),
            MIXED_DATASET: Refusal(ValueError, f"… samples must not be BoundingBoxes, … {ZIP}"),
        },
    ),
    detection("images and their boxes", "boxes"),
    detection("instance masks", "masks"),
    detection("boxes, instance masks and keypoints", "boxes", "masks", "keypoints"),
    detection("stacked images and their boxes", "boxes", stacked=True),
    detection("images of two sizes and their boxes", "boxes", sizes=((HEIGHT, WIDTH), (6, 6))),
]
