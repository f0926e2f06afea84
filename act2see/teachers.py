"""The teacher of a name: the pocket world's oracle, Gemini, or a model on a server.

Works on names. Knows nothing of what is asked. Each is imported when it is asked for, since it
needs libraries that the others do not. Our choice.
"""

from math import inf

from act2see.interleave import Policy

# USD of a million tokens read and written, thoughts included, as listed in November 2026 for
# prompts of up to 200,000 tokens. What is not here has to be told its prices.
PRICES = {
    "gemini-2.5-flash": (0.30, 2.50),
    "gemini-2.5-pro": (1.25, 10.0),
    "gemini-3.1-pro-preview": (2.0, 12.0),
    "gemini-3.5-flash": (1.50, 9.0),
    "gemini-3.8-flash": (0.75, 3.75),
}


def load_teacher(
    name: str,
    base_url: str = "",
    seed: int = 0,
    mistakes: float = 0.0,
    slips: float = 0.0,
    allow_model: str = "",
    human_reasoning: bool = False,
    batch: str = "",
    **account: float,
) -> Policy:
    """The teacher of this name: `oracle`, a Gemini model, or one of an OpenAI-compatible server.

    base_url: of the server, "" for the maker's own; with one, any model is asked in OpenAI's way.
    seed, mistakes, slips: of the oracle. allow_model, human_reasoning, batch: of `Teacher`.
    account: of `Account`, `budget_usd` 0 for no limit, and prices of 0 for those of `PRICES`.
    Raises ValueError where a key is needed and neither environment nor Colab's store has one, and
    for an oracle that is to be told something.
    """
    if name == "oracle":
        if human_reasoning:
            raise ValueError(
                "human_reasoning is True; it must be False: the oracle is told nothing"
            )
        from act2see.pocket.oracle import MISTAKES, OraclePolicy

        label = f"oracle, seed {seed}, mistakes {mistakes:g}"
        label += f", slips {slips:g}" if slips else ""
        rates = dict.fromkeys(MISTAKES[1:], mistakes)
        return OraclePolicy(seed=seed, name=label, slips=slips, **rates)
    from act2see.policies.teacher import Account

    listed = PRICES.get(name, (0.0, 0.0)) if not base_url else (0.0, 0.0)
    prices = dict(zip(("input_usd", "output_usd"), listed, strict=True))
    given = {field: amount for field, amount in account.items() if amount}
    spending = Account(**{"budget_usd": inf} | prices | given)
    options = {"account": spending, "allow_model": allow_model, "batch": batch}
    options["human_reasoning"] = human_reasoning
    if name.startswith("gemini") and not base_url:
        from act2see.policies.gemini import gemini_teacher

        return gemini_teacher(name, **options)
    from act2see.policies.openai import openai_teacher

    return openai_teacher(name, base_url, **options)
