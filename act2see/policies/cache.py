"""Keys and values of many dialogues between turns, a row each, rows of any length together.

Works on tokens and traces, which it only tells apart. Knows nothing of models or of what tokens
mean, but for the one that opens a picture. Rows stay in memory that is allocated once and moved
into: new memory costs a processor more than the copying. Our choice.
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from act2see.encoding import Encoding
from act2see.trace import Trace

GROWTH = 1.5  # slots allocated for every slot needed where there is room: few turns need new ones


@dataclass
class Seating:
    """What the layers of a cache share: how much to hold, where the tokens fed now go, a spare."""

    room: int  # tokens, all rows and slots together
    rows: int = 0  # at least so many in every layer
    slots: int = 0  # and so many in every row
    first: int = 0  # the first row fed
    end: int = 0  # how many slots the longest row fed fills
    place: tuple[torch.Tensor, ...] = ()  # of every token fed: row, column, slot
    spare: torch.Tensor | None = None  # memory to move the next layer into


class RowLayer(DynamicLayer):
    """One layer's keys and values, at least (2, rows, heads, slots, size).

    A row's tokens lie one after the other from slot 0 on, whatever the other rows hold.
    """

    def __init__(self, seating: Seating):
        super().__init__()
        self.seating = seating
        self.store: torch.Tensor | None = None

    def _allocate(self, like: torch.Tensor) -> torch.Tensor:
        """New memory; what no token fills is finite, so that attention may weigh it with zero."""
        *_, heads, _, size = like.shape
        needed = self.seating.slots
        slots = max(needed, min(int(needed * GROWTH), self.seating.room // self.seating.rows))
        return like.new_zeros(2, self.seating.rows, heads, slots, size)

    def seat(self, sources: list[int], lengths: list[int]) -> None:
        """Give each row the first tokens of its source row, up to its length."""
        if self.store is None:
            return
        # Rows change places, so that none can be copied within the same memory. One spare serves
        # all layers in turn: each leaves its old memory to the next.
        target = self.seating.spare
        rows = self.seating.rows
        if target is None or target.shape[1] < rows or target.shape[3] < self.seating.slots:
            target = self._allocate(self.store)
        for row, (source, end) in enumerate(zip(sources, lengths, strict=True)):
            target[:, row, :, :end] = self.store[:, source, :, :end]
        self.seating.spare = self.store
        self.store = target

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write where `seating.place` says; what the rows fed now may look at."""
        if self.store is None:
            self.store = self._allocate(keys)
        first = self.seating.first
        rows, columns, slots = self.seating.place
        block = self.store[:, first : first + len(keys)]
        # Only real tokens are written: a row's left pads have no slot.
        for target, fresh in zip(block, (keys, values), strict=True):
            target[rows, :, slots] = fresh[rows, :, columns]
        return tuple(block[:, :, :, : self.seating.end])


class DialogueCache:
    """Keys and values of several dialogues, a row each; `tokens[i]` are those that row i holds.

    room: how many tokens to make room for at the most, unless one turn needs more.
    `owners` holds the traces themselves, so that no new one can be taken for one that has gone.
    """

    def __init__(self, layers: int, picture: int, room: int):
        self.picture = picture  # the token that opens one
        self.owners: list[Trace] = []
        self.tokens: list[list[int]] = []
        self.seating = Seating(room)
        self.layers = Cache(layers=[RowLayer(self.seating) for _ in range(layers)])

    def clear(self) -> None:
        """Hold nothing: what was fed before was made by other weights. Memory stays."""
        self.owners = []
        self.tokens = []

    def seat(self, traces: list[Trace], encodings: list[Encoding], more: int) -> list[int]:
        """Give every dialogue a row with slots for its tokens and so many more, those with least to
        feed first; their order, as indices.

        A row keeps the tokens that are still true, and leaves at least one to feed. A dialogue
        that is new begins with what the first row holds too, up to its first picture.
        """
        rows = {id(owner): row for row, owner in enumerate(self.owners)}
        sources = [rows.get(id(trace), 0) for trace in traces]
        lengths = []
        for trace, source, encoding in zip(traces, sources, encodings, strict=True):
            # Another dialogue's picture has the same token: a new row stops before it.
            end = None if id(trace) in rows else self.picture
            pairs = zip(self.tokens[source] if rows else [], encoding.ids, strict=False)
            same = sum(1 for _ in takewhile(lambda p, end=end: p[0] == p[1] != end, pairs))
            # The logits of what comes next need a token that is fed now.
            lengths.append(min(same, len(encoding.ids) - 1))
        # Rows with about as much to feed lie side by side, to go through the model together.
        order = sorted(range(len(traces)), key=lambda i: len(encodings[i].ids) - lengths[i])
        self.seating.rows = len(order)
        self.seating.slots = max(len(encoding.ids) for encoding in encodings) + more
        for layer in self.layers.layers:
            layer.seat([sources[i] for i in order], [lengths[i] for i in order])
        self.owners = [traces[i] for i in order]
        self.tokens = [encodings[i].ids[: lengths[i]] for i in order]
        return order

    def append(self, first: int, news: list[list[int]]) -> torch.Tensor | None:
        """Note new tokens of the rows from `first` on, which are fed left-padded to one width.

        Returns (rows, 1, width, slots) to add to attention's scores, -inf where nobody may look,
        None where plain causal attention says the same, in half the time. A pad looks at its row's
        first token.
        """
        width = max(map(len, news))
        lengths = torch.tensor([len(t) for t in self.tokens[first : first + len(news)]])
        counts = torch.tensor([len(new) for new in news])
        # Slots of every column: a pad's lie before those of the row's first new token.
        slots = (lengths - width + counts)[:, None] + torch.arange(width)
        rows, columns = (torch.arange(width) >= width - counts[:, None]).nonzero(as_tuple=True)
        self.seating.first = first
        self.seating.place = (rows, columns, slots[rows, columns])
        self.seating.end = int((lengths + counts).max())
        for tokens, new in zip(self.tokens[first:], news, strict=False):
            tokens += new
        even = len({*lengths.tolist()}) == 1 and int(counts.min()) == width
        # Without a mask one new token sees all, and several count from slot 0: without a past.
        if even and (width == 1 or not lengths[0]):
            return None
        # Clamped, as a pad that may look nowhere would make NaN of its whole row.
        hidden = torch.arange(self.seating.end) > slots.clamp(min=0)[..., None]
        return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None]

    def swap(self, one: int, other: int) -> None:
        """Let two rows change places."""
        if one == other:
            return
        for column in (self.owners, self.tokens):
            column[one], column[other] = column[other], column[one]
        for layer in self.layers.layers:
            pair = layer.store[:, [other, one]]
            layer.store[:, [one, other]] = pair
