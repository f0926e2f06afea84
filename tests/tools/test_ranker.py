import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from act2see.profiles import load_profile
from act2see.tools.ranker import load_ranker
from act2see.tools.retrieve import RetrieveFrames
from act2see.tools.tool import run_call
from act2see.trace import Frame, Step, Trace
from tests import tiny


@pytest.fixture(scope="module", params=["siglip", "siglip2"])
def checkpoint(request, tmp_path_factory):
    return getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, 20, 40, 3), np.uint8)
    return [Frame(time_s=float(i), pixels=Image.fromarray(p)) for i, p in enumerate(pixels)]


def test_scores_are_cosines_of_the_models_own_embeddings(checkpoint, frames):
    scores = load_ranker(checkpoint)(frames, "The red disc")
    model = AutoModel.from_pretrained(checkpoint).eval()
    words = AutoTokenizer.from_pretrained(checkpoint).encode("the red disc")
    words += [1] * (64 - len(words))
    with torch.no_grad():
        text = model.get_text_features(torch.tensor([words])).pooler_output
        for frame, score in zip(frames, scores, strict=True):
            one = AutoImageProcessor.from_pretrained(checkpoint)(frame.image(), return_tensors="pt")
            image = model.get_image_features(**one).pooler_output
            assert float(normalize(image) @ normalize(text).T) == pytest.approx(score, abs=1e-5)
    assert scores.shape == (3,) and np.ptp(scores) > 1e-4


def test_a_long_query_is_cut_and_another_query_ranks_otherwise(checkpoint, frames):
    rank = load_ranker(checkpoint)
    assert np.isfinite(rank(frames, "the red disc " * 200)).all()
    assert not np.allclose(rank(frames, "a man opens"), rank(frames, "which cup falls first"))


def test_the_tool_shows_the_frames_that_score_best(checkpoint, questions):
    rank = load_ranker(checkpoint)
    window = {"start_s": 2, "end_s": 6, "query": "the red disc"}
    call = Step(kind="call", tool="retrieve_frames", arguments=window)
    trace = Trace(question=questions[0])
    best, every = (
        run_call([RetrieveFrames(count, ranker=ranker)], trace, call).frames
        for count, ranker in ((3, rank), (17, ""))
    )
    order = np.argsort(-rank(every, "the red disc"))[:3]
    assert [f.time_s for f in best] == [every[i].time_s for i in sorted(order)]


def test_a_model_that_embeds_no_texts_is_refused():
    with pytest.raises(ValueError, match="Qwen3VLModel, which embeds no texts"):
        load_ranker(load_profile("pocket").student)


def test_a_mistyped_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: there is no such folder"):
        load_ranker(str(tmp_path / "none"))
