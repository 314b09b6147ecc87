"""What some mixers need a batch to say of each pixel: the object or the class that it shows."""

from __future__ import annotations

from torch import Tensor

from mixup_transforms._batch.parse import Batch, is_pure_tensor, listed, unwrap
from mixup_transforms._core.ragged import Images, Ragged, largest, sizes


def check_instances(mixer: str, batch: Batch) -> None:
    """Refuse a batch whose objects have no instance masks."""
    if batch.objects is None:
        raise ValueError(
            f"{mixer} pastes objects by their instance masks, which this batch has no place for; "
            "give (images, targets), each target with a tv_tensors.Mask (N, H, W) under a key such "
            f"as 'masks'; the batch holds\n{listed(batch)}"
        )
    if batch.targets is None:
        return
    name, keys = batch.name(batch.objects), batch.targets.keys
    planes = [key for key in keys.semantic if str(key).lower() == "masks"]
    if keys.masks is None and planes:
        raise ValueError(
            f"{name}[i][{planes[0]!r}] is one mask (H, W) of all of an image, but {mixer} pastes "
            "objects by instance masks (N, H, W); of a single object that is "
            "tv_tensors.Mask(mask[None])"
        )
    # Images in which nobody found an object have nothing to paste.
    if keys.masks is None and keys.geometry:
        raise ValueError(
            f"{name}[i] has {[*keys.geometry]} but no instance masks, by which {mixer} pastes "
            "objects; add a tv_tensors.Mask (N, H, W) to each target, or use RandomCutMix, for "
            "which boxes are enough"
        )


def check_classes(mixer: str, batch: Batch) -> None:
    """Refuse a batch in which not exactly one mask says what class each pixel has."""
    if batch.objects is not None and (batch.targets is None or not batch.size):
        return  # targets that are still to be looked at, or none
    found = _semantic(batch)
    indices = {name: masks for name, masks in found.items() if _is_index(masks)}
    if not found:
        raise ValueError(
            f"{mixer} pastes classes of a semantic mask, of which this batch has none; "
            f"{_remedy(batch)}; the batch holds\n{listed(batch)}"
        )
    if not indices:
        name, masks = next(iter(found.items()))
        raise TypeError(
            f"{name} must hold integer class indices, which {mixer} chooses from, got "
            f"{str(masks.dtype).removeprefix('torch.')}; of class probabilities (B, C, H, W) take "
            f"argmax(1), or apply OneHot(num_classes) after {mixer}"
        )
    if len(indices) > 1:
        raise ValueError(
            f"{mixer} pastes classes of one semantic mask, got {' and '.join(indices)}; leave one "
            "of them in the batch, and give others to apply_to_masks with the same params"
        )
    ((name, masks),) = indices.items()
    _check_shape(name, masks, unwrap(batch.leaves[batch.images[0]]))


def _remedy(batch: Batch) -> str:
    for i, leaf in enumerate(batch.leaves):
        dense = is_pure_tensor(leaf) and leaf.ndim > 2 and _is_index(leaf)
        if dense and i not in batch.images:
            return f"if {batch.name(i)} is one, wrap it in tv_tensors.Mask"
    return (
        "give (images, masks), with masks a tv_tensors.Mask (B, H, W) of class indices, or a 2-D "
        "one in each target of a list"
    )


def _check_shape(name: str, masks: Images, images: Images) -> None:
    if isinstance(masks, Ragged):
        return  # which lie beside their images
    if isinstance(images, Ragged):
        check_beside_list(name, masks, images)
    plane = masks.ndim == 3 or (masks.ndim == 4 and masks.shape[1] == 1)
    if not plane or len(masks) != len(images) or (sizes(masks) != sizes(images)).any():
        wanted = (len(images), *map(int, largest(images)))
        raise ValueError(
            f"{name} must have shape {wanted}, as the images have, a class index in each pixel, "
            f"got {tuple(masks.shape)}"
        )


def check_beside_list(name: str, masks: Tensor, images: Ragged) -> None:
    """Refuse masks in one tensor that are not those of images in a list, which may differ."""
    size, others = (*masks.shape[-2:],), {(*image.shape[-2:],) for image in images}
    if not others <= {size}:
        raise ValueError(
            f"{name} must have the height and width of all images, got {size} beside "
            f"{sorted(others)}; give the target of each image its own tv_tensors.Mask (H, W)"
        )


def class_indices(batch: Batch) -> Images:
    """Return the semantic mask of a checked batch: ``(B, H, W)``, or ``(H, W)`` in a list."""
    for masks in _semantic(batch).values():
        if _is_index(masks):
            return masks if isinstance(masks, Ragged) else masks.view(len(masks), *masks.shape[-2:])
    return Ragged([])


def _semantic(batch: Batch) -> dict[str, Images]:
    found = {batch.name(i): unwrap(batch.leaves[i]) for i in batch.masks}
    if batch.targets is not None and batch.objects is not None:
        name = batch.name(batch.objects)
        for key in batch.targets.keys.semantic:
            planes = [target[key] for target in batch.targets.given]
            found[f"{name}[i][{key!r}]"] = unwrap(planes)
    return found


def _is_index(masks: Images) -> bool:
    return not (masks.dtype.is_floating_point or masks.dtype.is_complex)
