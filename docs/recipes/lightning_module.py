"""PyTorch Lightning: mix in ``on_after_batch_transfer``, and not in the last epochs."""

import lightning as L
import torch
import torch.nn.functional as F
from digits import digits, small_cnn
from torch.utils.data import DataLoader

from mixup_transforms import RandomMixup, mixed_accuracy, seeded_generator

EPOCHS, PLAIN_EPOCHS = 12, 3


class DigitsModule(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = small_cnn()
        self.mix = RandomMixup(alpha=0.4, num_classes=10, generator=seeded_generator(0))

    def setup(self, stage):
        # Only now are there ranks, which seeded_generator asks for. Checkpoints are loaded later.
        if stage == "fit":
            self.mix.generator.set_state(seeded_generator(0).get_state())

    def on_train_epoch_start(self):
        if self.current_epoch >= EPOCHS - PLAIN_EPOCHS:
            self.mix.p = 0.0

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return self.mix(batch) if self.trainer.training else batch

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def test_step(self, batch, batch_idx):
        images, labels = batch
        self.log("accuracy", mixed_accuracy(self.model(images), labels), batch_size=len(images))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


L.seed_everything(0, verbose=False)
training, test = digits()
trainer = L.Trainer(
    max_epochs=EPOCHS,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
module = DigitsModule()
trainer.fit(module, DataLoader(training, batch_size=64, shuffle=True))
(result,) = trainer.test(module, DataLoader(test, batch_size=256), verbose=False)
print(f"test accuracy: {result['accuracy']:.1%}")
