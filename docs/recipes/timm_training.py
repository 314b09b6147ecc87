"""timm's training pieces, with its ``Mixup`` replaced."""

import torch
from PIL import Image
from sklearn.datasets import load_digits
from timm import create_model
from timm.data import create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import AverageMeter, accuracy
from torch.utils.data import Dataset
from torchvision.transforms import v2

from mixup_transforms import OneHot, RandomChoice, RandomCutMix, RandomMixup, seeded_generator


class Digits(Dataset):
    """Pictures of digits, made ready by the ``transform`` that ``create_loader`` sets."""

    def __init__(self, part):
        data = load_digits()
        self.images, self.labels = data.images[part], data.target[part]
        self.transform = None

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        picture = Image.fromarray((self.images[index] * 255 / 16).astype("uint8"))
        return self.transform(picture), int(self.labels[index])


EPOCHS = 8
torch.manual_seed(0)
order = torch.randperm(1797).numpy()
settings = {
    "input_size": (1, 16, 16),
    "mean": (0.5,),
    "std": (0.5,),
    "use_prefetcher": False,
    "num_workers": 0,
}
loader = create_loader(
    Digits(order[:900]), batch_size=64, is_training=True, no_aug=True, **settings
)
test_loader = create_loader(Digits(order[900:]), batch_size=256, crop_pct=1.0, **settings)

mix = v2.Compose(
    [
        OneHot(10, label_smoothing=0.1),
        RandomChoice(
            [RandomMixup(alpha=0.8), RandomCutMix(alpha=1.0)], generator=seeded_generator(0)
        ),
    ]
)

model = create_model("test_resnet", in_chans=1, num_classes=10)
optimizer = create_optimizer_v2(model, opt="adamw", lr=3e-3)
scheduler = CosineLRScheduler(optimizer, t_initial=EPOCHS)
criterion = SoftTargetCrossEntropy()

for epoch in range(EPOCHS):
    model.train()
    for images, labels in loader:
        images, labels = mix(images, labels)
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scheduler.step(epoch + 1)

model.eval()
top1 = AverageMeter()
with torch.no_grad():
    for images, labels in test_loader:
        (percent,) = accuracy(model(images), labels)
        top1.update(percent.item(), len(labels))
print(f"test accuracy: {top1.avg:.1f}%")
