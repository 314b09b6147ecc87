"""A mixer of your own: the right of each image shows its partner."""

import torch

from mixup_transforms import BoxMixer, functional


class RandomSideBySide(BoxMixer):
    """Show the sample left of a vertical line and its partner right of it.

    As in Summers and Dinneen, *Improved Mixed-Example Data Augmentation*, WACV 2019
    (arXiv 1805.11272). λ ~ Beta(α, α) places the line, the nearest column sets ``lam``.

    Example:
        >>> black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
        >>> box = torch.tensor([[3, 0, 4, 4], [3, 0, 4, 4]])
        >>> params = {"partner": torch.tensor([1, 0]), "box": box}
        >>> mix = RandomSideBySide(num_classes=2)
        >>> images, labels = mix.replay(params, black_and_white, torch.tensor([0, 1]))
        >>> images[0, 0, 0], labels[0]
        (tensor([0., 0., 0., 1.]), tensor([0.7500, 0.2500]))
    """

    def __init__(self, *, alpha=1.0, **settings):
        super().__init__(**settings)
        self.alpha = alpha

    def draw(self, plan):
        """Draw ``box``, all that lies right of the line; ``lam`` follows from it."""
        height, width = plan.size
        box = torch.tensor([0, 0, width, height]).repeat(plan.rows, 1)
        box[:, 0] = (plan.draw_lam(self.alpha) * width).round()
        return plan.params(lam=functional.box_share(box, height, width), box=box)
