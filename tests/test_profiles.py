import pytest

from act2see.profiles import PROFILES, load_profile


def test_profiles_are_found_by_name_and_others_refused():
    assert load_profile("pocket") is PROFILES["pocket"]
    with pytest.raises(ValueError, match="profile is 'huge'; it must be one of: pocket"):
        load_profile("huge")
