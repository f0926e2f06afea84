"""One training on several processes and cores: each takes its share of a step, and their gradients
add up.

Works on steps in parts, on weights, and on the folder of a training. Knows nothing of traces or
losses. A launcher (torchrun, accelerate) starts the processes; without it there is one. Our choice.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import parse_flag_from_env
from torch.utils.data import DataLoader
from transformers import Trainer

from act2see.checkpoints import sealing

# The others wait while the first process looks at all frames. NCCL gives up after ten minutes.
PATIENCE = timedelta(hours=12)


def join(batch_size: int) -> PartialState:
    """This process among those that a launcher started; they take equal shares of a step's traces.

    Raises ValueError unless they can, and for FSDP: each process holds the whole base.
    """
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    if batch_size % state.num_processes:
        rule = f"it must be a multiple of the number of processes, {state.num_processes}"
        raise ValueError(f"batch_size is {batch_size}; {rule}: start fewer, or change the recipe")
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError("use_fsdp is on; it must be off: each process holds the whole 4-bit base")
    return state


def add_up(loss: torch.Tensor, weights: list[torch.nn.Parameter]) -> torch.Tensor:
    """The sum of all processes' losses; the gradient of each weight becomes the sum of theirs."""
    # A process whose share of the last step is empty has no gradients.
    own = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    numbers = torch.cat([tensor.flatten() for tensor in (loss, *own)])
    torch.distributed.all_reduce(numbers)
    total, *gradients = numbers.split([1, *(w.numel() for w in weights)])
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient.view_as(weight)
    return total[0]


class SharedTrainer(Trainer):
    """A Trainer whose steps are lists of parts, shared out to all processes, and whose checkpoints
    are sealed.

    Its `data_collator` takes a step's examples, and `process` and `processes` where there are many.
    workers: how many parts a process computes side by side, on as many of a processor's cores.
    """

    workers = 1

    def create_accelerator_and_postprocess(self) -> None:
        """The accelerator; it wraps no model."""
        super().create_accelerator_and_postprocess()
        # DDP adds up gradients of what goes through its own forward pass; our loss goes past it.
        prepare_model = self.accelerator.prepare_model
        self.accelerator.prepare_model = partial(prepare_model, evaluation_mode=True)

    def get_train_dataloader(self) -> DataLoader:
        """The steps, the same in all processes, of which each collates its share."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        place = {"process": self.args.process_index, "processes": self.args.world_size}
        steps = DataLoader(
            self.train_dataset,
            self.args.train_batch_size,
            shuffle=True,
            collate_fn=partial(self.data_collator, **place),
        )
        # As if it were alone: accelerate would repeat traces to fill the last step.
        alone = {"num_processes": 1, "process_index": 0, "use_seedable_sampler": True}
        return prepare_data_loader(steps, self.args.device, put_on_device=True, **alone)

    def training_step(
        self, model: torch.nn.Module, inputs: list[dict], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The step's loss; no more than `workers` parts' activations are held at a time."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        one_by_one = (super(SharedTrainer, self).training_step(model, part) for part in inputs)
        losses = self._side_by_side(model, inputs, weights) if self.workers > 1 else one_by_one
        loss = sum(losses, torch.zeros((), device=self.args.device))
        return loss if self.args.world_size == 1 else add_up(loss, weights)

    def _side_by_side(
        self, model: torch.nn.Module, inputs: list[dict], weights: list[torch.nn.Parameter]
    ) -> Iterator[torch.Tensor]:
        """Each part's loss, `workers` parts at a time; the gradients are added in the parts' order.

        A core that computes a part waits for no other: threads within a product wait at each, and
        with another program on the machine three to four times as long.
        """

        def differentiate(part: dict) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            loss = self.compute_loss(model, self._prepare_inputs(part))
            return loss.detach(), torch.autograd.grad(loss, weights)

        model.train()
        for loss, gradients in self._pool.map(differentiate, inputs):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient if weight.grad is None else weight.grad + gradient
            yield loss

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """The threads that compute parts, the same for all steps; they share the cores."""
        each = max(1, torch.get_num_threads() // self.workers)
        return ThreadPoolExecutor(self.workers, "part", torch.set_num_threads, (each,))

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with sealing(checkpoint) if self.is_world_process_zero() else nullcontext():
            super()._save_checkpoint(*args, **kwargs)
            # Each process writes its random numbers' state there; the seal covers them.
            self.accelerator.wait_for_everyone()
