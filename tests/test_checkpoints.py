"""A training that was killed or damaged anywhere goes on, and ends as the one left alone."""

import json
import pickle
import shutil
import zipfile

import pytest

from act2see import checkpoints
from act2see.checkpoints import SEAL, last_whole, read_json, run_of, sealing, steady
from act2see.finetune import finetune, prepare_folder
from act2see.profiles import PROFILES
from act2see.recipe import Recipe

BASE = PROFILES["pocket"].student
TINY = Recipe(rank=2, learning_rate=5e-3, epochs=2, batch_size=1)
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def whole(traces, tmp_path_factory):
    """A finished run of two epochs of three steps, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finetune(traces[:3], traces[3:4], BASE, folder, TINY)
    return folder


def unfinished(whole, folder):
    """The run as a kill leaves it before its adapter is written."""
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "adapter")
    (folder / "outcome.json").unlink()
    (folder / "log.json").unlink()
    return folder


def missing(file):
    file.unlink()


def empty(file):
    file.write_bytes(b"")


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def changed(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = [(missing, "optimizer.pt"), (missing, "trainer_state.json"), (missing, "rng_state.pth")]
DAMAGE += [(missing, "scheduler.pt"), (empty, "trainer_state.json"), (cut, WEIGHTS)]
DAMAGE += [(changed, "optimizer.pt"), (missing, SEAL), (cut, SEAL)]


@pytest.mark.parametrize(("damage", "name"), DAMAGE)
def test_a_broken_checkpoint_is_named_and_the_one_before_is_taken(whole, tmp_path, damage, name):
    folder = unfinished(whole, tmp_path / "run")
    damage(folder / "checkpoint-6" / name)
    with pytest.warns(UserWarning, match="checkpoint-6 is not whole"):
        assert last_whole(folder).name == "checkpoint-3"
    assert not (folder / "checkpoint-6").exists()


def test_an_interrupted_run_ends_with_the_same_adapter_and_the_same_log(whole, traces, tmp_path):
    folder = unfinished(whole, tmp_path / "run")
    missing(folder / "checkpoint-6" / "scheduler.pt")
    (folder / "features.bin").write_bytes(b"half")
    (folder / "outcome.json.4194399.partial").write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"checkpoint-6 .*scheduler.pt is missing"):
        finetune(traces[:3], traces[3:4], BASE, folder, TINY)
    for name in ("adapter/" + WEIGHTS, "log.json", "run.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole.iterdir())


@pytest.mark.parametrize("name", ["outcome.json", "log.json", "adapter/" + WEIGHTS])
def test_a_finished_run_whose_file_is_cut_is_finished_again(whole, traces, tmp_path, name):
    folder = shutil.copytree(whole, tmp_path / "run")
    before = (folder / name).read_bytes()
    cut(folder / name)
    outcome = finetune(traces[:3], traces[3:4], BASE, folder, TINY)
    assert outcome.log == json.loads((whole / "log.json").read_text())
    assert name == "outcome.json" or (folder / name).read_bytes() == before


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/never-to-be-seen",)


def test_a_checkpoint_that_holds_code_is_refused_and_nothing_of_it_is_run(whole, traces, tmp_path):
    folder = unfinished(whole, tmp_path / "run")
    shutil.rmtree(folder / "checkpoint-6")
    file = folder / "checkpoint-3" / "rng_state.pth"
    inside = zipfile.ZipFile(file).namelist()
    root = inside[0].split("/")[0]
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickle.dumps(Evil()))
        archive.writestr(f"{root}/version", "3\n")
    with sealing(folder / "checkpoint-3"):
        pass  # whoever puts code there may seal it, too
    with pytest.raises(ValueError, match=r"checkpoint-3 holds more than numbers .*delete it"):
        finetune(traces[:3], traces[3:4], BASE, folder, TINY)
    from pathlib import Path

    assert not Path("/tmp/never-to-be-seen").exists()


@pytest.mark.parametrize("damage", [missing, empty, cut])
def test_a_lost_mark_is_told_by_the_checkpoints(whole, tmp_path, damage):
    folder = unfinished(whole, tmp_path / "run")
    run = read_json(folder / "run.json")
    damage(folder / "run.json")
    assert run_of(folder) == run["digest"]
    prepare_folder(folder, run)
    assert (folder / "checkpoint-6").exists() and read_json(folder / "run.json") == run


def test_a_training_without_mark_or_checkpoint_starts_anew_and_says_so(tmp_path):
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_bytes(b"")
    with pytest.warns(UserWarning, match="does not say which training"):
        prepare_folder(tmp_path / "run", {"digest": "a"})
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_full_disk_is_named_with_what_is_kept_and_leaves_nothing_half(whole, tmp_path):
    folder = unfinished(whole, tmp_path / "run")
    half = folder / "checkpoint-9"
    half.mkdir()
    with pytest.raises(OSError, match=r"checkpoint-9 .*No space.*goes on from checkpoint-6"):
        with sealing(half):
            (half / "optimizer.pt").write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed: No space left on device")
    assert not half.exists()


def test_features_find_no_room_before_they_are_mapped(
    traces, processor, base, tmp_path, monkeypatch
):
    from act2see.encoding import encode
    from act2see.features import see_once

    def full(path, size):
        path.write_bytes(b"")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("act2see.features.reserve", full)
    encodings = [encode(traces[0], processor)]
    with pytest.warns(UserWarning, match=r"features.bin has no room for 0.* GB"):
        assert see_once(encodings, base, processor, tmp_path / "features.bin", 1.0) == [[]]
    assert not list(tmp_path.iterdir())


def test_room_is_taken_at_once(tmp_path):
    checkpoints.reserve(tmp_path / "f", 3_000_000)
    status = (tmp_path / "f").stat()
    assert status.st_size == 3_000_000 and status.st_blocks * 512 >= 3_000_000


def test_a_log_holds_no_times_and_the_mean_of_all_steps():
    log = [{"loss": 2.0, "step": 2}, {"eval_loss": 1.0, "eval_runtime": 3.0, "step": 2}]
    log += [{"loss": 1.0, "step": 6}, {"train_loss": 9.0, "train_samples_per_second": 1, "step": 6}]
    mean = {"train_loss": 8 / 6, "step": 6}
    assert steady(log) == [log[0], {"eval_loss": 1.0, "step": 2}, log[2], mean]
    assert steady([]) == []
