import pytest

from act2see.policies.model_name import same_model


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4", "gpt-4-0613"),
        ("gemini-3.8-flash", "gemini-3.8-flash-001"),
        ("gemini-3.8-flash", "models/gemini-3.8-flash"),
        ("models/gemini-3.8-flash", "gemini-3.8-flash"),
        ("gemini-2.5-pro", "gemini-2.5-pro-preview-05-06"),
        ("gemini-2.5-flash", "gemini-2.5-flash-preview-09-2025"),
        ("claude-x-latest", "claude-x-20251022"),
        ("qwen3-vl:8b", "qwen3-vl:8b"),
        ("qwen3-vl", "qwen3-vl:latest"),
        ("Qwen/Qwen3-VL-8B-Thinking", "qwen3-vl-8b-thinking"),
        ("Qwen3-VL-8B-Thinking", "Qwen/Qwen3-VL-8B-Thinking"),
        ("Qwen/Qwen3-VL-8B-Thinking", "/data/models/Qwen3-VL-8B-Thinking/"),
        ("own", r"D:\models\own"),
        ("gpt-4o-2024-08-06", "gpt-4o"),  # it tells less, and nothing else
        ("anything", ""),
        ("anything", "  "),
    ],
)
def test_a_snapshot_a_path_or_an_owner_does_not_make_another_model(asked, served):
    assert same_model(asked, served)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("gemini-2.5-pro", "gemini-3.8-flash"),
        ("gemini-2.5-pro", "gemini-2.5-flash"),
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("gpt-4o", "gpt-4"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13"),
        ("claude-opus-4", "claude-opus-4-1"),
        ("o1", "o1-preview-2024-09-12"),
        ("qwen3-vl:8b", "qwen3-vl:4b"),
        ("Qwen/Qwen3-VL-8B", "other/Qwen3-VL-8B"),
        ("m", "n"),
    ],
)
def test_another_name_size_or_version_is_another_model(asked, served):
    assert not same_model(asked, served)
