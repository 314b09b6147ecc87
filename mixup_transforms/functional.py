"""The pure kernels: tensors in, tensors out; no randomness, no state, no torchvision types.

Throughout, ``partner`` is an integer tensor ``(B,)`` with the index of each sample's partner, in a
mosaic ``(B, 3)``, ``lam`` a float tensor ``(B,)`` with the share of the sample's own pixels in the
result, and ``others`` the batch that ``partner`` points into: ``images`` itself, or a second batch.
The two may share memory, ``inplace`` too. Autocast changes nothing.

Derivatives, forwards and backwards, are those of the mix, and the kernels of images and labels run
under ``torch.func``: ``vmap`` maps images, ``partner`` and geometry. What is differentiated or
mapped is computed as one expression, and values that ``torch.func`` follows are not checked.
``vmap`` with ``inplace`` needs images that are mapped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixup_transforms._core import checks, classes, kernels, shares

__all__ = [
    "box_share",
    "cutmix",
    "fmix",
    "mask_share",
    "mix_labels",
    "mixup",
    "mosaic",
    "one_hot",
    "quadrant_share",
    "resizemix",
    "top_share",
]


def mixup(
    images: Tensor,
    /,
    partner: Tensor,
    lam: Tensor,
    *,
    others: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Mix each sample with its partner: ``lam · own + (1 − lam) · partner``.

    Zhang, Cissé, Dauphin, Lopez-Paz, *mixup: Beyond Empirical Risk Minimization*, ICLR 2018
    (arXiv 1710.09412). Where ``lam`` is exactly 1 the sample is copied bit for bit, where it is
    exactly 0 its partner is, whatever NaN or inf the other one holds. Differentiable with respect
    to ``images``, ``others`` and, where images are floating, ``lam``.

    Args:
        images: ``(B, …)``, floating or integer. Floats are mixed in at least float32; integers of
            up to 16 bits in float32, wider ones in float64, and rounded to the nearest, ties to
            even; no integer leaves its parents' range. Floats may be as far apart as their
            working dtype reaches: 3e38 and -3e38 in float32 are further, and become inf.
        partner: integer ``(B,)``, indices into the partners' batch.
        lam: float ``(B,)`` in [0, 1].
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
        inplace: write into ``images`` and return it.

    Returns:
        The shape, dtype and memory format of ``images``.

    Raises:
        TypeError: for bool, complex and other dtypes that cannot be averaged.
        ValueError: for a ``partner`` or ``lam`` of another shape or out of range, and for an
            ``inplace`` target that cannot be written.

    Example:
        >>> import torch
        >>> images = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> mixup(images, torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
        tensor([[0.2500, 0.2500],
                [1.0000, 1.0000]])
    """
    checks.mixable("images", images)
    checks.call("images", images, partner, others=others, inplace=inplace)
    checks.lam(lam, batch=len(images))
    return kernels.blend(images, partner, lam, others=others, inplace=inplace)


def mix_labels(
    labels: Tensor,
    /,
    partner: Tensor,
    lam: Tensor,
    *,
    others: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Mix dense labels: ``lam · own + (1 − lam) · partner``.

    Differentiable with respect to ``labels``, ``others`` and ``lam``.

    Args:
        labels: floating ``(B, …)``: class probabilities, multi-label vectors, regression targets.
        partner: integer ``(B,)``, indices into the partners' labels.
        lam: float ``(B,)`` in [0, 1].
        others: the partners' labels; ``labels`` by default.
        inplace: write into ``labels`` where they are float32 or float64, and return them.

    Returns:
        The shape of ``labels``, in float32 at least: a half-precision label cannot carry λ.

    Raises:
        TypeError: for integer labels; see :func:`one_hot`.
        ValueError: as :func:`mixup`.

    Example:
        >>> import torch
        >>> labels = one_hot(torch.tensor([0, 2]), 3)
        >>> mix_labels(labels, torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
        tensor([[0.7500, 0.0000, 0.2500],
                [0.0000, 0.0000, 1.0000]])
    """
    given = {"labels": labels} if others is None else {"labels": labels, "others": others}
    for name, value in given.items():
        if checks.tensor(name, value).dtype not in checks.FLOATS:
            raise TypeError(
                f"{name} must be floating to be mixed, got {checks.describe(value)}; "
                "turn class indices into probabilities with OneHot or one_hot"
            )
    checks.batched("labels", labels)
    soft = labels.to(torch.promote_types(labels.dtype, torch.float32))
    inplace = inplace or soft is not labels
    others = None if others is None else others.to(soft.dtype)
    checks.call("labels", soft, partner, others=others, inplace=inplace)
    checks.lam(lam, batch=len(labels))
    return kernels.blend(soft, partner, lam, others=others, inplace=inplace)


def cutmix(
    images: Tensor,
    /,
    partner: Tensor,
    box: Tensor,
    *,
    others: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Show each sample's partner inside a box.

    Yun, Han, Oh, Chun, Choe, Yoo, *CutMix: Regularization Strategy to Train Strong Classifiers with
    Localizable Features*, ICCV 2019 (arXiv 1905.04899). The labels mix with
    :func:`box_share`. Differentiable with respect to ``images`` and ``others``.

    Args:
        images: ``(B, …, H, W)`` of any dtype that is not quantized, which is copied and never
            computed with; sequences ``(B, …, T)`` and volumes ``(B, …, D, H, W)`` too. The box is
            the same for everything before the dimensions that it lies in.
        partner: integer ``(B,)``, indices into the partners' batch.
        box: integer ``(B, 4)``: x1, y1, x2, y2, with x2 and y2 excluded; empty for no change. In
            sequences ``(B, 2)``: x1, x2; in volumes ``(B, 6)``: x1, y1, z1, x2, y2, z2. x lies
            along the last dimension.
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
        inplace: write into ``images`` and return it.

    Returns:
        The shape, dtype and memory format of ``images``.

    Raises:
        ValueError: for images of fewer dimensions than the box, a box that is inverted or leaves
            the image, and as :func:`mixup`.

    Example:
        >>> import torch
        >>> images = torch.tensor([[[0, 0, 0]], [[1, 1, 1]]])
        >>> cutmix(images, torch.tensor([1, 0]), torch.tensor([[0, 0, 2, 1], [0, 0, 0, 0]]))
        tensor([[[1, 1, 0]],
        <BLANKLINE>
                [[1, 1, 1]]])
        >>> cutmix(images[:, 0], torch.tensor([1, 0]), torch.tensor([[1, 3], [0, 0]]))
        tensor([[0, 1, 1],
                [1, 1, 1]])
    """
    dims = checks.box_dims(box)
    checks.spatial("images", images, dims)
    checks.call("images", images, partner, others=others, inplace=inplace)
    checks.box(box, batch=len(images), size=tuple(images.shape[-dims:]))
    return kernels.paste(images, partner, box, others=others, inplace=inplace)


def resizemix(
    images: Tensor,
    /,
    partner: Tensor,
    box: Tensor,
    *,
    others: Tensor | None = None,
    nearest: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Show each sample's whole partner, resized, inside a box.

    Qin, Fang, Zhang, Liu, Wang, Wang, *ResizeMix: Mixing Data with Preserved Object Information and
    True Labels*, 2020 (arXiv 2012.11101). The labels mix with :func:`box_share`. Differentiable
    with respect to ``images`` and ``others``.

    Args:
        images: ``(B, …, H, W)``, floating or integer.
        partner: integer ``(B,)``, indices into the partners' batch.
        box: integer ``(B, 4)``: x1, y1, x2, y2, with x2 and y2 excluded; empty for no change.
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
        nearest: take the nearest pixel, as masks of class indices need; by default the resize is
            bilinear and antialiased, in at least float32, integers rounded.
        inplace: write into ``images`` and return it.

    Returns:
        The shape, dtype and memory format of ``images``.

    Raises:
        TypeError: for dtypes that cannot be resized.
        ValueError: as :func:`cutmix`.

    Example:
        >>> import torch
        >>> images = torch.tensor([[[0, 0, 0]], [[1, 3, 5]]])
        >>> resizemix(images, torch.tensor([1, 0]), torch.tensor([[2, 0, 3, 1], [0, 0, 0, 0]]))
        tensor([[[0, 0, 3]],
        <BLANKLINE>
                [[1, 3, 5]]])
    """
    checks.mixable("images", images)
    checks.spatial("images", images)
    checks.call("images", images, partner, others=others, inplace=inplace)
    checks.box(box, batch=len(images), size=checks.size_of(images))
    return kernels.paste_resized(
        images, partner, box, others=others, inplace=inplace, nearest=nearest
    )


def fmix(
    images: Tensor,
    /,
    partner: Tensor,
    mask: Tensor,
    *,
    others: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Show each sample's partner wherever a mask is false.

    Harris, Marcu, Painter, Niranjan, Prügel-Bennett, Hare, *FMix: Enhancing Mixed Sample Data
    Augmentation*, 2020 (arXiv 2002.12047). The labels mix with the mean of the mask.
    Differentiable with respect to ``images`` and ``others``.

    Args:
        images: ``(B, …, H, W)`` of any dtype that is not quantized, which is copied and never
            computed with; sequences ``(B, …, T)`` and volumes ``(B, …, D, H, W)`` too.
        partner: integer ``(B,)``, indices into the partners' batch.
        mask: bool ``(B, H, W)``: true where the sample keeps its own pixel; in sequences ``(B, T)``
            and in volumes ``(B, D, H, W)``.
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
        inplace: write into ``images`` and return it.

    Returns:
        The shape, dtype and memory format of ``images``.

    Raises:
        TypeError: for a mask that is not bool.
        ValueError: for a mask of another shape, and as :func:`cutmix`.

    Example:
        >>> import torch
        >>> images = torch.tensor([[[0, 0, 0]], [[1, 1, 1]]])
        >>> fmix(images, torch.tensor([1, 0]), torch.tensor([[[True, False, True]]] * 2))
        tensor([[[0, 1, 0]],
        <BLANKLINE>
                [[1, 0, 1]]])
    """
    dims = checks.mask_dims(mask)
    checks.spatial("images", images, dims)
    checks.call("images", images, partner, others=others, inplace=inplace)
    checks.mask(mask, batch=len(images), size=tuple(images.shape[-dims:]))
    return kernels.select(images, partner, mask, others=others, inplace=inplace)


def mosaic(
    images: Tensor,
    /,
    partner: Tensor,
    centre: Tensor,
    *,
    others: Tensor | None = None,
    size: tuple[int, int] | None = None,
    inplace: bool = False,
) -> Tensor:
    """Show each sample and three partners around a centre.

    Bochkovskiy, Wang, Liao, *YOLOv4: Optimal Speed and Accuracy of Object Detection*, 2020
    (arXiv 2004.10934). The sample lies in the top left, its partners in the top right, the bottom
    left and the bottom right, each with its inner corner at the centre, cropped by the canvas. A
    pixel that none of them reaches is 0. The labels mix with :func:`quadrant_share`.
    Differentiable with respect to ``images`` and ``others``.

    Args:
        images: ``(B, …, H, W)`` of any dtype that is not quantized, which is copied and never
            computed with. The centre is the same for everything before the last two dimensions.
        partner: integer ``(B, 3)``, indices into the partners' batch.
        centre: integer ``(B, 2)``: x from 0 to the canvas's width, y from 0 to its height.
        others: the partners' batch, of the same dtype and inner shape; ``images`` by default.
        size: height and width of the canvas; ``(H, W)`` by default.
        inplace: write into ``images``, which takes a canvas of their size, and return it.

    Returns:
        The dtype and memory format of ``images``, and their shape but for ``size``.

    Raises:
        TypeError: for a centre that is not integer, and a size that is no pair of integers.
        ValueError: for images without two spatial dimensions, a centre off the canvas, another
            ``size`` in place, and as :func:`mixup`.

    Example:
        >>> import torch
        >>> images = torch.arange(4).view(4, 1, 1).expand(4, 2, 4)
        >>> mosaic(images, torch.tensor([[1, 2, 3]] * 4), torch.tensor([[3, 1]] * 4))[0]
        tensor([[0, 0, 0, 1],
                [2, 2, 2, 3]])
    """
    checks.spatial("images", images)
    checks.call("images", images, partner, others=others, inplace=inplace, partners=3)
    own, canvas = checks.size_of(images), checks.canvas_size("size", size)
    if inplace and canvas not in (None, own):
        raise ValueError(
            f"size must be that of images in place, {own}, got {canvas}; use inplace=False"
        )
    checks.centre(centre, batch=len(images), sizes=canvas or own)
    return kernels.mosaic(images, partner, centre, size=canvas, others=others, inplace=inplace)


def box_share(box: Tensor, /, *size: int) -> Tensor:
    """Return the share of each image's pixels outside its box, which is λ.

    Args:
        box: integer ``(B, 4)``, or of sequences ``(B, 2)`` or volumes ``(B, 6)``, as in
            :func:`cutmix`.
        *size: H and W, at least 1; of sequences T, of volumes D, H and W.

    Returns:
        float32 ``(B,)``.

    Raises:
        TypeError: for a box or lengths that are not integer.
        ValueError: for another number of lengths than the box lies in, and for a box that is
            inverted or leaves the image.

    Example:
        >>> import torch
        >>> box_share(torch.tensor([[0, 0, 2, 1], [0, 0, 0, 0]]), 2, 4)
        tensor([0.7500, 1.0000])
        >>> box_share(torch.tensor([[5, 9]]), 10)
        tensor([0.6000])
    """
    dims = checks.box_dims(box)
    if len(size) != dims:
        raise ValueError(
            f"size must be the {checks.listed(checks.AXES[dims])} that a box of {2 * dims} columns "
            f"lies in, got {size}"
        )
    lengths = zip(checks.AXES[dims], size, strict=True)
    size = tuple(checks.integer(axis, length, minimum=1) for axis, length in lengths)
    checks.box(box, batch=len(box), size=size)
    return shares.box_share(box, *size)


def mask_share(mask: Tensor, /) -> Tensor:
    """Return the share of each mask's pixels that are true, which is λ.

    Args:
        mask: bool ``(B, H, W)`` of at least one pixel, true for own pixels; of sequences
            ``(B, T)``, of volumes ``(B, D, H, W)``.

    Returns:
        float32 ``(B,)``.

    Example:
        >>> import torch
        >>> mask_share(torch.tensor([[[True, False, False, False]]]))
        tensor([0.2500])
    """
    if checks.tensor("mask", mask).ndim - 1 not in checks.AXES or 0 in mask.shape[1:]:
        raise ValueError(
            "mask must be (B, T), (B, H, W) or (B, D, H, W) of at least one pixel, "
            f"got {checks.describe(mask)}"
        )
    checks.mask(mask, batch=len(mask), size=tuple(mask.shape[1:]))
    return shares.mask_share(mask)


def quadrant_share(
    centre: Tensor, /, height: int, width: int, *, size: tuple[int, int] | None = None
) -> Tensor:
    """Return the shares of a sample and its three partners in a :func:`mosaic`.

    Among the pixels that any of them covers: the first is λ.

    Args:
        centre: integer ``(B, 2)``: x, y.
        height: H of the images, at least 1.
        width: W of the images, at least 1.
        size: height and width of the canvas; ``(H, W)`` by default.

    Returns:
        float32 ``(B, 4)``.

    Example:
        >>> import torch
        >>> share = quadrant_share(torch.tensor([[3, 1]]), 2, 4)
        >>> share
        tensor([[0.3750, 0.1250, 0.3750, 0.1250]])
        >>> labels, partner = one_hot(torch.tensor([0, 1, 1, 1]), 2), torch.tensor([[1, 2, 3]])
        >>> parents = torch.cat((labels[:1, None], labels[partner]), 1)
        >>> (share.unsqueeze(2) * parents).sum(1)
        tensor([[0.3750, 0.6250]])
    """
    height = checks.integer("height", height, minimum=1)
    width = checks.integer("width", width, minimum=1)
    canvas = checks.canvas_size("size", size) or (height, width)
    checks.centre(centre, batch=len(checks.tensor("centre", centre)), sizes=canvas)
    return shares.quadrant_shares(centre, canvas, (height, width))


def top_share(scores: Tensor, /, share: Tensor) -> Tensor:
    """Return a mask of each image's highest pixels, exactly ``round(share · H · W)`` of them.

    Args:
        scores: floating ``(B, H, W)``, without NaN; of sequences ``(B, T)``, of volumes
            ``(B, D, H, W)``.
        share: float ``(B,)`` in [0, 1].

    Returns:
        bool, of the shape of ``scores``.

    Example:
        >>> import torch
        >>> top_share(torch.tensor([[[0.1, 0.9, 0.5, 0.5]]]), torch.tensor([0.5]))
        tensor([[[False,  True,  True, False]]])
    """
    fits = checks.tensor("scores", scores).ndim - 1 in checks.AXES
    if not (fits and scores.is_floating_point()):
        raise ValueError(
            "scores must be floating (B, T), (B, H, W) or (B, D, H, W), "
            f"got {checks.describe(scores)}"
        )
    checks.lam(share, batch=len(scores), name="share")
    return shares.top_share(scores, share)


def one_hot(
    labels: Tensor,
    /,
    num_classes: int,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> Tensor:
    """Turn class indices into (smoothed) class probabilities.

    The own class gets ``1 − ε + ε/C``, every other ``ε/C``: what
    ``torch.nn.CrossEntropyLoss(label_smoothing=ε)`` makes of the index, and in the layout that
    ``F.cross_entropy`` takes, with the classes in dim 1.

    Args:
        labels: integer ``(B, *dims)`` in [0, num_classes).
        num_classes: C, at least 1.
        label_smoothing: ε in [0, 1).
        ignore_index: a label outside [0, num_classes) whose positions become all zero, so that no
            gradient comes from them.

    Returns:
        float32 ``(B, C, *dims)``. Where labels cannot be read without stalling (on an accelerator,
        under ``torch.compile``), one that is out of range becomes a row of NaN instead of an error.

    Raises:
        TypeError: for labels that are not integers.
        ValueError: for labels out of range (the value is named) and for settings out of range.

    Example:
        >>> import torch
        >>> one_hot(torch.tensor([2, 0]), 3, label_smoothing=0.3)
        tensor([[0.1000, 0.1000, 0.8000],
                [0.8000, 0.1000, 0.1000]])
    """
    num_classes = checks.integer("num_classes", num_classes, minimum=1)
    label_smoothing = checks.smoothing("label_smoothing", label_smoothing)
    checks.ignore_index(ignore_index, num_classes)
    checks.batched("labels", checks.tensor("labels", labels))
    checks.classes(labels, num_classes, ignore_index=ignore_index)
    return classes.one_hot(
        labels, num_classes, label_smoothing=label_smoothing, ignore_index=ignore_index
    )
