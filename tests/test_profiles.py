import subprocess
import sys

import pytest

from act2see.profiles import POCKET_GENERATOR, PROFILES, equip, load_profile
from act2see.student import fingerprint
from act2see.tools.tool import Tool
from tests import tiny


def test_profiles_are_found_by_name_and_others_refused():
    assert load_profile("pocket") == PROFILES["pocket"]
    with pytest.raises(ValueError, match="'huge'; it must be one of: pocket, imagine"):
        load_profile("huge")


def test_a_text_changes_a_field_and_an_empty_one_does_not():
    changed = load_profile("t4", student="/models/own", embedder="")
    assert (changed.student, changed.embedder) == ("/models/own", PROFILES["t4"].embedder)
    assert PROFILES["t4"].student == "Qwen/Qwen3-VL-4B-Thinking"
    with pytest.raises(TypeError, match="pupil"):
        load_profile("t4", pupil="/models/own")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_a_profile_offers_tools_and_names_what_they_need(profile):
    assert profile.tools and all(isinstance(tool, Tool) for tool in profile.tools)
    assert all(getattr(tool, "generator", "none needed") for tool in profile.tools)


def test_a_name_changes_the_tool_that_has_such_a_model():
    changed = load_profile("t4", ranker="/my/ranker", generator="/my/pipeline")
    assert [changed.tools[0].ranker, changed.tools[1].generator] == ["/my/ranker", "/my/pipeline"]
    assert load_profile("pocket", generator="/my/pipeline").tools == PROFILES["pocket"].tools


def test_only_models_of_the_tools_on_offer_are_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "act2see.tools.generator", None)
    monkeypatch.setitem(sys.modules, "act2see.tools.ranker", None)
    assert equip(PROFILES["pocket"]).tools == PROFILES["pocket"].tools
    with pytest.raises(ImportError):
        equip(PROFILES["imagine"])


def test_a_profile_is_data_and_imports_nothing_that_it_names():
    code = "import sys, act2see.profiles; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    heavy = {"torch", "transformers", "pandas", "sklearn", "act2see.pocket", "act2see.datasets"}
    assert not heavy & set(modules.decode().split())


def test_a_profile_is_equipped_with_its_models(tmp_path):
    names = {"ranker": tiny.siglip(tmp_path), "generator": POCKET_GENERATOR.generator}
    retrieve, generate = equip(load_profile("t4", **names)).tools
    assert retrieve.ranker.__name__ == f"ranked by {fingerprint(tmp_path)}"
    label = generate.generator.__name__
    assert fingerprint(names["generator"]) in label and "'num_inference_steps': 20" in label
    pocket = equip(load_profile("pocket")).tools[0]
    assert not pocket.ranker
