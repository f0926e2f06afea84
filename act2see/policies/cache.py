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

GROWTH = 1.5  # slots made for every slot needed where there is room: few turns make new ones


class Seating:
    """What the layers of a cache share: how much to hold, where the tokens fed now go, a spare."""

    def __init__(self, room: int):
        self.room = room  # tokens, all rows and slots together
        self.rows = self.slots = 0  # at least so many in every layer
        self.first = self.end = 0  # the first row fed, how many slots the longest one fills
        self.place: tuple[torch.Tensor, ...] = ()  # of every token fed: row, column, slot
        self.spare: torch.Tensor | None = None  # memory to move the next layer into


class RowLayer(DynamicLayer):
    """One layer's keys and values, at least (2, rows, heads, slots, size).

    A row's tokens lie one after the other from slot 0 on, whatever the other rows hold.
    """

    def __init__(self, seating: Seating):
        super().__init__()
        self.seating, self.store = seating, None

    def _made(self, like: torch.Tensor) -> torch.Tensor:
        """New memory; what no token fills is finite, so that attention may weigh it with zero."""
        (*_, heads, _, size), rows, slots = like.shape, self.seating.rows, self.seating.slots
        slots = max(slots, min(int(slots * GROWTH), self.seating.room // rows))
        return like.new_zeros(2, rows, heads, slots, size)

    def seat(self, sources: list[int], known: list[int]) -> None:
        """Give each row the first tokens that are known of another row."""
        if (was := self.store) is None:
            return
        kept, wanted = self.seating.spare, self.seating
        if kept is None or kept.shape[1] < wanted.rows or kept.shape[3] < wanted.slots:
            kept = self._made(was)
        for row, (source, end) in enumerate(zip(sources, known, strict=True)):
            kept[:, row, :, :end] = was[:, source, :, :end]
        self.store, self.seating.spare = kept, was

    def update(self, keys, values, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Write where `seating.place` says; what the rows fed now may look at."""
        if self.store is None:
            self.store = self._made(keys)
        seating, (rows, columns, slots) = self.seating, self.seating.place
        fed = self.store[:, seating.first : seating.first + len(keys)]
        for kept, new in zip(fed, (keys, values), strict=True):
            kept[rows, :, slots] = new[rows, :, columns]
        return tuple(fed[:, :, :, : seating.end])


class DialogueCache:
    """Keys and values of several dialogues, a row each; `tokens[i]` are those that row i holds.

    room: how many tokens to make room for at the most, unless more are asked for.
    `owners` holds the traces themselves, so that no new one can be taken for one that has gone.
    """

    def __init__(self, layers: int, picture: int, room: int):
        self.picture = picture  # the token that opens one
        self.owners: list[Trace] = []
        self.tokens: list[list[int]] = []
        self.seating = Seating(room)
        self.layers = Cache(layers=[RowLayer(self.seating) for _ in range(layers)])

    def seat(self, traces: list[Trace], encodings: list[Encoding], more: int) -> list[int]:
        """Give every dialogue a row with slots for its tokens and so many more, those with least to
        feed first; their order, as indices.

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
        self.seating.rows = len(order)
        self.seating.slots = max(len(encoding.ids) for encoding in encodings) + more
        for layer in self.layers.layers:
            layer.seat([sources[i] for i in order], [known[i] for i in order])
        self.owners = [traces[i] for i in order]
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
        for layer in self.layers.layers:
            pair = layer.store[:, [other, one]]
            layer.store[:, [one, other]] = pair
