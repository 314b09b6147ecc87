"""fastai: a callback that mixes the training batches, as fastai's own ``MixUp`` does."""

from digits import digits, small_cnn
from fastai.basics import Callback, DataLoaders, Learner, accuracy, set_seed
from torch import nn

from mixup_transforms import RandomMixup, seeded_generator


class Mix(Callback):
    run_valid = False

    def __init__(self, mix):
        self.mix = mix

    def before_batch(self):
        (images,), (labels,) = self.xb, self.yb
        images, labels = self.mix(images, labels)
        self.learn.xb, self.learn.yb = (images,), (labels,)


set_seed(0, reproducible=True)
mix = RandomMixup(alpha=0.4, num_classes=10, generator=seeded_generator(0))
learner = Learner(
    DataLoaders.from_dsets(*digits(), bs=64, num_workers=0, device="cpu"),
    small_cnn(),
    loss_func=nn.CrossEntropyLoss(),
    metrics=accuracy,
    cbs=Mix(mix),
)
with learner.no_logging():
    learner.fit(10, lr=3e-3)
    _, test_accuracy = learner.validate()
print(f"test accuracy: {test_accuracy:.1%}")
