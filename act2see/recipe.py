"""How to fine-tune, in numbers.

Works on numbers alone, and imports nothing that takes time: a profile names its recipe before any
model library is there. Knows nothing of training. The paper trains LoRA adapters at a learning rate
of 2.5e-6, one trace a step, one epoch, as reported in a third party's note on it; the profiles of
its protocol say so. The defaults here, and the adapter's rank anywhere, are our choice.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune. `rank` is the adapter's; its alpha is twice that."""

    rank: int = 16
    learning_rate: float = 1e-4
    epochs: float = 3.0
    batch_size: int = 8  # traces a step
    fed_tokens: int = 16_384  # of a step's traces at a time, pads included; one trace at the least
    recompute: bool = False  # gradient checkpointing: activations again instead of memory
    features_gb: float = 20.0  # most of the frozen vision tower's output to keep, on disk
    seed: int = 0
