"""The training of plain_loop.py as a Lightning module; `pip install lightning` first.

    python examples/lightning_module.py [--surrogate NAME | DIRECTORY | ORG/REPO] [--live] [--fast-dev-run]

The surrogate is frozen and stays in evaluation mode whatever the trainer does. Its weights are left out of
the state dict, so that checkpoints hold the network alone. With --live it goes on learning on what it is
asked about; then checkpoints hold it and all it remembers, and a training that is resumed goes on as one.
"""

import argparse

import emuloss
import lightning
import torch
from emuloss.losses import LiveLoss
from plain_loop import FACTOR, Sharpen, rain, squared_error
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader


class SharpenRain(lightning.LightningModule):
    """Coarse rain to fine rain, on squared error and weight times the surrogate loss.

    Args:
        surrogate: the surrogate that the loss is made of.
        weight: of the surrogate loss; 0 trains on squared error alone.
        live: whether the surrogate, which must have weights, goes on learning.
    """

    def __init__(self, surrogate: emuloss.Surrogate, weight: float, *, live: bool = False) -> None:
        super().__init__()
        self.model, self.weight = Sharpen(), weight
        self.loss = surrogate.as_loss(live=True) if live else surrogate.as_loss(in_state_dict=False)
        self.exact = surrogate.as_loss(forward="exact", in_state_dict=False)

    def on_train_batch_start(self, target: Tensor, index: int) -> None:
        """Cool a relaxed surrogate before each step; networks have no temperature."""
        if self.loss.surrogate.relaxation is not None:
            self.loss.anneal(self.global_step / self.trainer.estimated_stepping_batches)

    def training_step(self, target: Tensor, index: int) -> Tensor:
        """The sum that is trained on, for a batch (N, 1, H, W) in mm/h."""
        prediction = self.model(F.avg_pool2d(target, FACTOR))
        return squared_error(prediction, target) + self.weight * self.loss(prediction, target)

    def on_train_batch_end(self, outputs: object, target: Tensor, index: int) -> None:
        """Let a live surrogate learn on what it was just asked about, and log how far it can be believed."""
        if isinstance(self.loss, LiveLoss):
            self.log_dict(self.loss.learn(), batch_size=len(target))

    def validation_step(self, target: Tensor, index: int) -> None:
        """Log squared error and the distance between the exact curves."""
        prediction = self.model(F.avg_pool2d(target, FACTOR))
        found = {"mse": squared_error(prediction, target), "distance": self.exact(prediction, target)}
        self.log_dict(found, batch_size=len(target))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on the network; the surrogate is frozen, or learns by an optimizer of its own."""
        return torch.optim.Adam(self.model.parameters(), lr=2e-3)


def main() -> None:
    """Validate, train without and with the loss, and validate again."""
    parser = argparse.ArgumentParser(description="Sharpen coarse rain with Lightning and a surrogate loss.")
    parser.add_argument("--surrogate", default="minkowski-opera", help="bundled, a directory, or on the Hub")
    parser.add_argument("--weight", type=float, default=0.002, help="of the surrogate loss; default: 0.002")
    parser.add_argument("--epochs", type=int, default=10, help="of each training; default: 10")
    parser.add_argument(
        "--live", action="store_true", help="a network goes on learning: --surrogate clusters-opera"
    )
    parser.add_argument("--fast-dev-run", action="store_true", help="one batch of each, to see that it runs")
    arguments = parser.parse_args()
    surrogate = emuloss.load(arguments.surrogate)
    held_out = DataLoader(rain(128, seed=1), batch_size=128)
    for weight in (0.0, arguments.weight):
        lightning.seed_everything(0)
        fields = DataLoader(rain(512, seed=0), batch_size=16, shuffle=True)
        module = SharpenRain(surrogate, weight, live=arguments.live and weight > 0)
        trainer = lightning.Trainer(
            max_epochs=arguments.epochs,
            fast_dev_run=arguments.fast_dev_run,
            logger=False,
            enable_checkpointing=False,
        )
        print(f"weight {weight:g}, before:")
        trainer.validate(module, held_out)
        trainer.fit(module, fields)
        print(f"weight {weight:g}, after:")
        trainer.validate(module, held_out)


if __name__ == "__main__":
    main()
