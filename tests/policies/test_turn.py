"""How a turn is drawn, against a slow and obvious reference; what a setting says."""

from collections import Counter

import pytest
import torch

from act2see.policies.qwen import QwenPolicy
from act2see.policies.turn import Speech


def allowed(logits, temperature, top_k, top_p):
    """Chances by token: the k likeliest, then the fewest of them that have the share p."""
    chances = torch.softmax(logits / temperature, -1)
    ranked = sorted(enumerate(chances.tolist()), key=lambda pair: -pair[1])[: top_k or None]
    whole = sum(chance for _, chance in ranked)
    kept, share = {}, 0.0
    for token, chance in ranked:
        if share >= top_p:
            break
        kept[token] = chance / whole
        share += chance / whole
    whole = sum(kept.values())
    return {token: chance / whole for token, chance in kept.items()}


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.6, 5, 0.95), (1.0, 0, 0.5), (2.0, 3, 1.0), (1.0, 0, 1.0)]
)
def test_tokens_are_drawn_as_the_reference_says(base, processor, temperature, top_k, top_p):
    policy = QwenPolicy(base, processor, temperature=temperature, top_k=top_k, top_p=top_p)
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1))
    drawn = Counter(policy._choose(logits.expand(4000, -1)))
    expected = allowed(logits, temperature, top_k, top_p)
    assert set(drawn) <= set(expected)
    assert all(drawn[t] / 4000 == pytest.approx(c, abs=0.04) for t, c in expected.items())


def test_the_likeliest_alone_is_greedy(base, processor, traces):
    opened = [t.model_copy(update={"steps": []}) for t in traces[:2]]
    greedy = QwenPolicy(base, processor, max_new_tokens=20).reply(opened)
    for limits in ({"top_k": 1}, {"top_p": 1e-6}):
        policy = QwenPolicy(base, processor, max_new_tokens=20, temperature=0.6, **limits)
        assert policy.reply(opened) == greedy


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_new_tokens", 0), ("temperature", -1), ("top_k", -1), ("top_p", 0), ("top_p", 1.5)],
)
def test_what_is_no_limit_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Speech(**{field: value})


def test_a_setting_changes_with_all_that_shapes_an_answer():
    one = Speech(temperature=0.6)
    others = [{"max_new_tokens": 9}, {"temperature": 0.7}, {"seed": 1}, {"system": "be brief"}]
    others += [{"top_p": 0.9}, {"top_k": 20}, {"temperature": 0.0}]
    settings = [Speech(**{"temperature": 0.6} | other).setting for other in others]
    assert len({one.setting, *settings}) == len(others) + 1
    assert one.setting == Speech(temperature=0.6).setting
