import pytest

from act2see.profiles import PROFILES, load_profile
from act2see.toolbox import SCHEMAS


def test_profiles_are_found_by_name_and_others_refused():
    assert load_profile("pocket") == PROFILES["pocket"]
    with pytest.raises(ValueError, match="'huge'; it must be one of: pocket, imagine, t4, paper"):
        load_profile("huge")


def test_a_text_changes_a_field_and_an_empty_one_does_not():
    changed = load_profile("t4", student="/models/own", embedder="")
    assert (changed.student, changed.embedder) == ("/models/own", PROFILES["t4"].embedder)
    assert PROFILES["t4"].student == "Qwen/Qwen3-VL-4B-Thinking"
    with pytest.raises(TypeError, match="pupil"):
        load_profile("t4", pupil="/models/own")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_a_profile_offers_known_tools_and_names_what_they_need(profile):
    assert set(profile.toolbox.tools) <= set(SCHEMAS)
    assert profile.generator or "generate_frame" not in profile.toolbox.tools
