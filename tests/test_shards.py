import random

import pytest

from act2see.interleave import Budget, collect
from act2see.pocket.oracle import OraclePolicy
from act2see.shards import merge, shard_folder, share
from act2see.store import add_trace, locked, read_traces
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Question


def asked(folder, questions):
    """The file of a process that asks these questions."""
    path = folder / "traces.jsonl"
    collect(path, questions, OraclePolicy(), (RetrieveFrames(),), Budget(open_dialogues=3))
    return path


@pytest.fixture(scope="module")
def files(questions, tmp_path_factory):
    """The files of three shares."""
    out = tmp_path_factory.mktemp("shards")
    return [asked(shard_folder(out, n, 3), share(questions, n, 3)) for n in (1, 2, 3)]


def many(count, of_each=3):
    numbers = range(count * of_each)
    return [Question(id=f"q{n}", video=f"{n // of_each}.mp4", text="who?") for n in numbers]


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 50])
def test_every_question_is_in_one_share_and_a_videos_questions_are_together(shards):
    questions = many(50)
    shares = [share(questions, n, shards) for n in range(1, shards + 1)]
    assert sorted(q.id for s in shares for q in s) == sorted(q.id for q in questions)
    videos = [{q.video for q in s} for s in shares]
    assert sum(map(len, videos)) == 50
    assert max(map(len, videos)) - min(map(len, videos)) <= 1
    assert share(questions, 0, shards) == questions


def test_shares_depend_on_neither_order_nor_place():
    questions = many(20)
    elsewhere = [q.model_copy(update={"video": f"/mnt/{q.video}"}) for q in questions]
    random.Random(1).shuffle(elsewhere)
    for n in (1, 2, 3):
        here = {q.id for q in share(questions, n, 3)}
        assert {q.id for q in share(elsewhere, n, 3)} == here


@pytest.mark.parametrize(("shard", "shards"), [(4, 3), (-1, 3), (1, 0), (0, 0), (0, -2), (1, 6)])
def test_a_share_that_is_not_there_is_refused(shard, shards):
    with pytest.raises(ValueError, match=f"shard is {shard} of shards {shards}; shards must be"):
        share(many(5), shard, shards)


def test_three_shares_merged_are_what_one_process_writes(questions, files, tmp_path):
    merged = tmp_path / "merged" / "traces.jsonl"
    assert merge(files, merged, questions) == len(questions)
    one = asked(tmp_path / "one", questions)
    assert sorted(merged.read_bytes().splitlines()) == sorted(one.read_bytes().splitlines())
    pictures = [{p.name: p.read_bytes() for p in f.with_name("frames").iterdir()}
                for f in (merged, one)]  # fmt: skip
    assert pictures[0] == pictures[1]
    # The run goes on from it: nothing is asked again, and a second merge adds nothing.
    before = merged.read_bytes()
    assert asked(merged.parent, questions) == merged
    assert merge(files, merged, questions) == 0 and merged.read_bytes() == before


def test_a_missing_share_is_named(questions, files, tmp_path):
    gone = tmp_path / "shard-4-of-4" / "traces.jsonl"
    with pytest.raises(ValueError, match=r"shard-4-of-4/traces\.jsonl must be there"):
        merge([*files, gone], tmp_path / "traces.jsonl", questions)
    lost = share(questions, 2, 3)
    with pytest.raises(ValueError, match="missing: ") as error:
        merge([files[0], files[2]], tmp_path / "traces.jsonl", questions)
    assert all(q.id in str(error.value) for q in lost)
    assert not (tmp_path / "traces.jsonl").exists()


def test_a_question_in_two_files_is_named(questions, files, tmp_path):
    again = read_traces(files[0])[0]
    other = tmp_path / "traces.jsonl"
    other.write_bytes(files[1].read_bytes())
    (tmp_path / "frames").symlink_to(files[1].with_name("frames"))
    with locked(other) as file:
        add_trace(file, again)
    with pytest.raises(ValueError, match=f"in two files: {again.question.id}; all shards"):
        merge([files[0], other, files[2]], tmp_path / "merged.jsonl", questions)
    # Shares of another count overlap.
    overlapping = asked(tmp_path / "two", share(questions, 1, 2))
    with pytest.raises(ValueError, match="in two files: "):
        merge([*files, overlapping], tmp_path / "merged.jsonl", questions)
    assert not (tmp_path / "merged.jsonl").exists()
