"""Two processes on this machine learn what one learns, and go on when both were killed."""

import json
import multiprocessing
import os
import socket
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from act2see import distributed
from act2see.checkpoints import SEAL, read_json
from act2see.distributed import add_up, join
from act2see.finetune import collate, description, held_out_split, main
from act2see.profiles import POCKET
from act2see.recipe import Recipe
from act2see.store import read_traces, write_traces

# Nine traces in steps of four: in the last of an epoch, one process has none.
OPTIONS = ("--held-out", "1")
WEIGHTS = "adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def kept(traces, tmp_path_factory):
    file = tmp_path_factory.mktemp("kept") / "kept.jsonl"
    write_traces(file, traces)
    return file


def train(rank, port, words):
    """Train as one process of two that torchrun started."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    sys.exit(main(words))


def start(kept, folder):
    """Two processes that train into a folder; a server imports once for all, and forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["act2see.finetune"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(kept), str(folder), *OPTIONS]
    pair = [context.Process(target=train, args=(rank, port, words)) for rank in range(2)]
    for process in pair:
        process.start()
    return pair


def finish(pair):
    for process in pair:
        process.join(300)
    assert [process.exitcode for process in pair] == [0, 0]


@pytest.fixture(scope="module")
def two(kept):
    folder = kept.with_name("two")
    finish(start(kept, folder))
    return folder


def losses(folder):
    log = json.loads((folder / "log.json").read_text())
    return [(row["step"], k, v) for row in log for k, v in row.items() if "loss" in k]


def test_two_processes_have_the_losses_of_one(kept, two, tmp_path, monkeypatch):
    assert main([str(kept), str(tmp_path / "one"), *OPTIONS]) == 0
    for one, other in zip(losses(tmp_path / "one"), losses(two), strict=True):
        assert one[:2] == other[:2] and one[2] == pytest.approx(other[2], abs=1e-4)
    assert len(losses(two)) == 5
    assert (tmp_path / "one" / "run.json").read_bytes() == (two / "run.json").read_bytes()
    # As notebook 03 calls it.
    split = held_out_split(read_traces(kept), 1, 0)
    said = description(*split, POCKET.student, POCKET.recipe, True, POCKET.system)
    assert read_json(two / "run.json") == said


def test_both_killed_they_go_on_to_the_same_adapter(kept, two):
    cut = kept.with_name("cut")
    pair = start(kept, cut)
    while pair[0].is_alive() and not any(cut.glob(f"checkpoint-*/{SEAL}")):
        time.sleep(0.01)
    for process in pair:
        process.kill()
        process.join()
    assert (cut / "features.bin").exists() and not (cut / "adapter").exists()
    finish(start(kept, cut))
    assert (cut / WEIGHTS).read_bytes() == (two / WEIGHTS).read_bytes()
    assert (cut / "log.json").read_bytes() == (two / "log.json").read_bytes()
    assert sorted(p.name for p in cut.iterdir()) == sorted(p.name for p in two.iterdir())


def test_shares_are_the_step_and_count_the_tokens_of_all():
    labels = [[-100, 5, 5], [-100, -100, 5, 5, 5], [-100, 5]]
    examples = [
        {"labels": row, "input_ids": row, "positions": torch.zeros(3, len(row)), "frames": [row]}
        for row in labels
    ]
    shares = [collate(examples, 0, 1, process=i, processes=4) for i in range(4)]
    assert [[part["frames"] for part in share] for share in shares] == [
        [[labels[2]]],
        [[labels[0]]],
        [[labels[1]]],
        [],
    ]
    assert {part["of"] for share in shares for part in share} == {6}
    whole = collate(examples, 0, 1)
    assert [part["of"] for part in whole] == [6, 6, 6]


def test_losses_and_gradients_are_summed_with_none_for_zero(monkeypatch):
    weights = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(1))]
    weights[0].grad = torch.arange(6.0).view(2, 3)
    # As if the other process had the same.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda numbers: numbers.mul_(2))
    assert add_up(torch.tensor(0.5), weights) == 1
    assert weights[0].grad.tolist() == [[0, 2, 4], [6, 8, 10]]
    assert weights[1].grad.tolist() == [0]


def test_unequal_shares_and_a_base_in_pieces_are_refused(monkeypatch):
    three = SimpleNamespace(num_processes=3)
    monkeypatch.setattr(distributed, "PartialState", lambda **options: three)
    assert join(6) is three
    with pytest.raises(ValueError, match=r"batch_size is 4; .* number of processes, 3"):
        join(4)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="use_fsdp is on; it must be off"):
        join(6)


def test_alone_every_batch_size_is_fine():
    assert join(Recipe().batch_size).num_processes == join(1).num_processes == 1


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--profile", "pockets"], "profile is 'pockets'"),
        (["--held-out", "10"], "held_out is 10"),
        (["--student", "./none", "--held-out", "1"], "there is no such folder"),
    ],
)
def test_the_command_says_what_is_wrong(kept, tmp_path, capsys, words, wrong):
    assert main([str(kept), str(tmp_path / "run"), *words]) == 2
    assert wrong in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_asks_for_the_right_to_train(traces, tmp_path, capsys):
    question = traces[0].question.model_copy(update={"source": "causalvqa"})
    file = tmp_path / "kept.jsonl"
    write_traces(file, [traces[0].model_copy(update={"question": question})])
    assert main([str(file), str(tmp_path / "run"), "--held-out", "0"]) == 2
    assert "may_train is False" in capsys.readouterr().err
