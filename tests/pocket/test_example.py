"""The clip that ships, against the scene it was made of."""

import numpy as np

from act2see.pocket.example import SCENE, example_question, example_video
from act2see.pocket.questions import SPLITS
from act2see.pocket.world import render
from act2see.video import probe, read_frames


def test_the_clip_shows_its_scene_and_is_small():
    times_s = np.arange(0, SCENE.duration_s, 0.5)
    images, _ = read_frames(example_video(), times_s)
    difference = np.stack([np.asarray(i) for i in images]) - render(SCENE, times_s).astype(float)
    assert abs(difference).mean() < 3
    assert probe(example_video()).duration_s == SCENE.duration_s
    assert example_video().stat().st_size <= 120_000


def test_the_question_is_of_the_test_split_and_no_overview_frame_answers_it():
    question = example_question()
    assert SCENE.seed // 10**12 == SPLITS["test"]
    assert question.video == str(example_video())
    overview = [SCENE.facts(t) for t in SCENE.overview_times()]
    assert question.family == "search" and not any(facts.visitor for facts in overview)
