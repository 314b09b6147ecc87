"""uint8 images to normalised and mixed ones, in one compiled pass over memory."""

import torch
from torch import Tensor

from mixup_transforms import RandomMixup, functional

CLASSES = 1000
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)  # both where the images are
mix = RandomMixup()


@torch.compile(fullgraph=True)
def normalised(images: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """Scale to [0, 1], normalise and mix."""
    return functional.mixup((images / 255 - MEAN) / STD, partner, lam)


def mixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Draw who is mixed with whom and how much, then mix images and labels."""
    params = mix.make_params([images])
    partner, lam = params["partner"], params["lam"]
    rows = functional.one_hot(labels, CLASSES)
    return normalised(images, partner, lam), functional.mix_labels(rows, partner, lam)
