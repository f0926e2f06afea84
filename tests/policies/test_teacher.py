import math

import pytest

from act2see.pocket.oracle import OraclePolicy
from act2see.policies.gemini import gemini_teacher
from act2see.policies.teacher import Account, Teacher
from act2see.teachers import load_teacher


def test_the_oracle_is_named_after_seed_and_rates():
    teacher = load_teacher("oracle", seed=3, mistakes=0.1)
    assert teacher == OraclePolicy(3, 0.1, 0.1, 0.1, 0.1, "oracle, seed 3, mistakes 0.1")


def test_an_account_says_what_was_spent_in_dollars():
    account = Account(input_usd=0.75, output_usd=3.75, tokens_in=200_000, tokens_out=10_000)
    assert str(account) == "200000 tokens in, 10000 out: $0.1875"


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


def test_what_a_teacher_is_told_and_who_may_answer_reach_it(monkeypatch, tmp_path):
    file = str(tmp_path / "batches.json")
    options = {"allow_model": "n", "human_reasoning": True, "batch": file, "input_usd": 2}
    teacher = load_teacher("own", "http://127.0.0.1:9", **options)
    assert teacher.accepts("n") and teacher.accepts("own-001") and not teacher.accepts("other")
    assert teacher.name == "own (told human reasoning)"
    assert (teacher.batch, teacher.account.usd(10**6)) == (file, 1)
    with pytest.raises(ValueError, match="human_reasoning is True; it must be False"):
        load_teacher("oracle", human_reasoning=True)


def test_without_a_key_the_makers_server_is_not_asked(monkeypatch):
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="GEMINI_API_KEY is neither in the environment"):
        load_teacher("gemini-2.5-pro")
    assert isinstance(load_teacher("own", "http://127.0.0.1:9"), Teacher)


def test_prices_are_listed_by_model_and_dollars_printed(key):
    account = load_teacher("gemini-3.8-flash", budget_usd=5).account
    account.add(0, 1_000_000, 200_000)
    assert (account.input_usd, account.output_usd) == (0.75, 3.75)
    assert str(account) == "1000000 tokens in, 200000 out: $1.5000"
    told = load_teacher("gemini-3.8-flash", input_usd=1, output_usd=2).account
    assert (told.input_usd, told.output_usd) == (1, 2)
    # On a server of one's own the name says nothing of a price.
    assert load_teacher("gemini-3.8-flash", "http://127.0.0.1:9").account.input_usd == 0
