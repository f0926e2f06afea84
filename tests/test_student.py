import json

import pytest

from act2see import student
from act2see.student import check_adapter, find_adapter, fingerprint, load_processor, locate


def test_a_pipelines_weights_lie_in_folders_of_its_own_and_count(tmp_path):
    marks = set()
    for place, weights in (("model", b"a"), ("unet/model", b"a"), ("unet/model", b"b")):
        file = tmp_path / f"{place}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(weights)
        marks.add(fingerprint(tmp_path))
    assert len(marks) == 3 and fingerprint("a hub/name") == "a hub/name"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working folder with `models/mine`, whose hub cannot be reached; its requests."""
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    requests = []

    def unreachable(name: str, file: str) -> str:
        requests.append(name)
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr(student, "cached_file", unreachable)
    return requests


@pytest.mark.parametrize("name", ["models/mine", "./models/mine", "~/models/mine"])
def test_a_folder_with_a_checkpoint_is_found(home, tmp_path, name):
    assert (tmp_path / locate(name)).samefile(tmp_path / "models" / "mine")
    assert not home


@pytest.mark.parametrize("name", ["models/none", "./none", "~/none", "/none", "outputs/run/none"])
def test_what_has_the_form_of_a_path_is_not_sought_on_the_hub(home, tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"^{name}: there is no such folder"):
        load_processor(name)
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        locate(tmp_path / "none")
    assert not home


def test_a_folder_without_a_checkpoint_says_so(home):
    with pytest.raises(FileNotFoundError, match=r"models is here, .* \(no config\.json\)"):
        locate("models")
    with pytest.raises(FileNotFoundError, match=r"\(no model_index\.json\)"):
        locate("models/mine", "model_index.json")


def test_what_may_be_a_folder_or_a_hub_name_is_neither(home):
    with pytest.raises(FileNotFoundError, match=r"neither a folder here nor .*\(We couldn't.*\)$"):
        load_processor("outputs/none")
    assert home == ["outputs/none"]
    with pytest.raises(FileNotFoundError, match="a name: it is neither a folder here nor a model"):
        locate("a name")


def test_a_cached_model_needs_no_hub(home, monkeypatch):
    monkeypatch.setattr(student, "try_to_load_from_cache", lambda name, file: "config.json")
    assert locate("owner/name") == "owner/name" and not home


def write_adapter(folder, base: str, revision: str | None):
    folder.mkdir(parents=True)
    fields = {"base_model_name_or_path": base, "revision": revision}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


def test_the_adapter_is_the_one_named_or_else_of_the_first_run_that_has_one(tmp_path):
    runs = [tmp_path / "mine", tmp_path / "pocket"]
    second = write_adapter(runs[1] / "finetune" / "adapter", "owner/base", None)
    assert find_adapter("", *runs) == second
    first = write_adapter(runs[0] / "finetune" / "adapter", "owner/base", None)
    assert find_adapter("", *runs) == first
    assert find_adapter(str(second), *runs) == second
    with pytest.raises(FileNotFoundError, match=r"none \(no .*run notebook 03, or set `adapter`"):
        find_adapter(str(tmp_path / "none"), *runs)
    with pytest.raises(FileNotFoundError, match=r"no adapter in \S+adapter or \S+adapter \("):
        find_adapter("", tmp_path / "a", tmp_path / "b", tmp_path / "a")


def test_an_adapter_of_a_hub_base_is_for_that_name_only(tmp_path):
    adapter = write_adapter(tmp_path / "adapter", "owner/base", None)
    check_adapter(adapter, "owner/base")
    with pytest.raises(ValueError, match=r"for owner/base .*; owner/other .* is another base"):
        check_adapter(adapter, "owner/other")
