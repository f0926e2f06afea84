import math

import pytest

from act2see.pocket.oracle import OraclePolicy
from act2see.policies.gemini import gemini_teacher
from act2see.policies.teacher import Teacher
from act2see.teachers import load_teacher


def test_the_oracle_is_named_after_seed_and_rates():
    teacher = load_teacher("oracle", seed=3, mistakes=0.1)
    assert teacher == OraclePolicy(3, 0.1, 0.1, 0.1, 0.1, "oracle, seed 3, mistakes 0.1")


def test_a_name_and_an_address_say_which_api_is_spoken(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "k1")
    monkeypatch.setenv("OPENAI_API_KEY", "k2")
    gemini, own, theirs = (
        load_teacher(*names, budget_usd=0, input_usd=1, output_usd=2)
        for names in (("gemini-2.5-pro",), ("gemini-2.5-pro", "http://127.0.0.1:9"), ("gpt-5",))
    )
    assert [t.key_name for t in (gemini, own, theirs)] == ["GEMINI_API_KEY"] + [
        "OPENAI_API_KEY"
    ] * 2
    assert (gemini.name, gemini.account.budget_usd) == ("gemini-2.5-pro", math.inf)
    assert gemini.connect is gemini_teacher("gemini-2.5-pro").connect is not own.connect
    spending = load_teacher("gpt-5", budget_usd=5, input_usd=1, output_usd=2).account
    assert (spending.budget_usd, spending.usd(10**6, 10**6)) == (5, 3)


def test_without_a_key_the_makers_server_is_not_asked(monkeypatch):
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="GEMINI_API_KEY is neither in the environment"):
        load_teacher("gemini-2.5-pro")
    assert isinstance(load_teacher("own", "http://127.0.0.1:9"), Teacher)
