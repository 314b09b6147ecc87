"""torchmetrics with mixed targets."""

import torch
import torch.nn.functional as F
from digits import digits, small_cnn
from torch.utils.data import DataLoader
from torchmetrics import KLDivergence, MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from mixup_transforms import RandomMixup, SampleLabels, mixed_accuracy, seeded_generator

torch.manual_seed(0)
training, test = digits()
loader = DataLoader(training, batch_size=64, shuffle=True)
model = small_cnn()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

mix = RandomMixup(alpha=0.4, num_classes=10, generator=seeded_generator(0))
sample_labels = SampleLabels(generator=seeded_generator(1))

mixed = MeanMetric()
sampled = MulticlassAccuracy(10, average="micro")
divergence = KLDivergence()

for _ in range(10):
    for metric in (mixed, sampled, divergence):
        metric.reset()
    for images, labels in loader:
        images, labels = mix(images, labels)
        output = model(images)
        loss = F.cross_entropy(output, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        output = output.detach()
        mixed.update(mixed_accuracy(output, labels), weight=len(labels))
        sampled.update(output, sample_labels(labels))
        divergence.update(labels, output.softmax(1))

print(f"last epoch, mixed batches: mixed accuracy {mixed.compute():.1%}, ", end="")
print(f"on sampled labels {sampled.compute():.1%}, KL divergence {divergence.compute():.2f}")

model.eval()
accuracy = MulticlassAccuracy(10, average="micro")
with torch.no_grad():
    for images, labels in DataLoader(test, batch_size=256):
        accuracy.update(model(images), labels)
print(f"test accuracy: {accuracy.compute():.1%}")
