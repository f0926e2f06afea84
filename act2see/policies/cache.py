"""Keys and values of many dialogues between turns, a row each, rows of any length together.

Works on tokens and traces, which it only tells apart. Knows nothing of models or of what tokens
mean, but for the one that opens a picture. Rows stay in memory that is made once and moved into:
new memory costs a processor more than the copying. Our choice.
"""

from itertools import takewhile

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from act2see.encoding import Encoding
from act2see.trace import Trace

GROWTH = 1.25  # slots made for every slot needed, so that not every token makes new ones


class Seating:
    """What the layers of a cache share: where the tokens fed now go, and memory to move into."""

    def __init__(self):
        self.rows = self.first = self.end = 0  # rows held, the first one fed, slots in use
        self.place: tuple[torch.Tensor, ...] = ()  # of every token fed: row, column, slot
        self.spare: torch.Tensor | None = None


class RowLayer(DynamicLayer):
    """One layer's keys and values, at least (rows, heads, slots, size) each.

    A row's tokens lie one after the other from slot 0 on, whatever the other rows hold.
    """

    def __init__(self, seating: Seating):
        super().__init__()
        self.seating, self.store = seating, []

    def seat(self, sources: list[int], known: list[int], slots: int) -> None:
        """Give each row so many slots, and the first tokens that are known of another row.

        What was held becomes the spare of the next layer: new memory costs more than copying.
        """
        for number, was in enumerate(self.store):
            kept, (_, heads, _, size) = self.seating.spare, was.shape
            if kept is None or kept.shape[0] < len(sources) or kept.shape[2] < slots:
                kept = was.new_zeros(len(sources), heads, int(slots * GROWTH), size)
            for row, (source, end) in enumerate(zip(sources, known, strict=True)):
                kept[row, :, :end] = was[source, :, :end]
            self.store[number], self.seating.spare = kept, was

    def update(self, keys, values, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Write where `seating.place` says; what the rows fed now may look at."""
        seating, (_, heads, _, size) = self.seating, keys.shape
        (rows, columns, slots), end = seating.place, seating.end
        self.store = self.store or [
            new.new_zeros(seating.rows, heads, 0, size) for new in (keys, values)
        ]
        if (held := min(kept.shape[2] for kept in self.store)) < end:
            self.seat([*range(seating.rows)], [held] * seating.rows, end)
        fed = slice(seating.first, seating.first + len(keys))
        for kept, new in zip(self.store, (keys, values), strict=True):
            kept[fed][rows, :, slots] = new[rows, :, columns]
        return tuple(kept[fed, :, :end] for kept in self.store)


class DialogueCache:
    """Keys and values of several dialogues, a row each; `tokens[i]` are those that row i holds.

    `owners` holds the traces themselves, so that no new one can be taken for one that has gone.
    """

    def __init__(self, layers: int, picture: int):
        self.picture = picture  # the token that opens one
        self.owners: list[Trace] = []
        self.tokens: list[list[int]] = []
        self.seating = Seating()
        self.layers = Cache(layers=[RowLayer(self.seating) for _ in range(layers)])

    def seat(self, traces: list[Trace], encodings: list[Encoding]) -> list[int]:
        """Give every dialogue a row, those with least to feed first; their order, as indices.

        A row keeps as many tokens as are still true, and leaves at least one to feed. A dialogue
        that is new begins with what the first row holds too, up to its first picture.
        """
        rows = {id(owner): row for row, owner in enumerate(self.owners)}
        sources, known = [], []
        for trace, encoding in zip(traces, encodings, strict=True):
            sources.append(rows.get(id(trace), 0))
            end = None if id(trace) in rows else self.picture
            pairs = zip(self.tokens[sources[-1]] if rows else [], encoding.ids, strict=False)
            same = sum(1 for _ in takewhile(lambda p, end=end: p[0] == p[1] != end, pairs))
            known.append(min(same, len(encoding.ids) - 1))
        order = sorted(range(len(traces)), key=lambda i: len(encodings[i].ids) - known[i])
        slots = max(len(encoding.ids) for encoding in encodings)
        for layer in self.layers.layers:
            layer.seat([sources[i] for i in order], [known[i] for i in order], slots)
        self.seating.rows, self.owners = len(order), [traces[i] for i in order]
        self.tokens = [encodings[i].ids[: known[i]] for i in order]
        return order

    def append(self, first: int, news: list[list[int]]) -> torch.Tensor | None:
        """Note new tokens of the rows from `first` on, which are fed left-padded to one width.

        Returns (rows, 1, width, slots) to add to attention's scores, -inf where nobody may look,
        None where plain causal attention says the same, in half the time. A pad looks at its row's
        first token.
        """
        width = max(map(len, news))
        held = torch.tensor([len(t) for t in self.tokens[first : first + len(news)]])
        counts = torch.tensor([len(new) for new in news])
        slots = (held - width + counts)[:, None] + torch.arange(width)
        rows, columns = (torch.arange(width) >= width - counts[:, None]).nonzero(as_tuple=True)
        seating = self.seating
        seating.first, seating.place = first, (rows, columns, slots[rows, columns])
        seating.end = int((held + counts).max())
        for tokens, new in zip(self.tokens[first:], news, strict=False):
            tokens += new
        alike = len({*held.tolist()}) == 1 and int(counts.min()) == width
        if alike and (width == 1 or not held[0]):
            return None
        hidden = torch.arange(seating.end) > slots.clamp(min=0)[..., None]
        return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None]

    def swap(self, one: int, other: int) -> None:
        """Let two rows change places."""
        if one == other:
            return
        for held in (self.owners, self.tokens):
            held[one], held[other] = held[other], held[one]
        for kept in [kept for layer in self.layers.layers for kept in layer.store]:
            kept[one], kept[other] = kept[other].clone(), kept[one].clone()
