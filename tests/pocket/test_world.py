import subprocess
import sys

import numpy as np

from act2see.pocket.world import COLOURS, PLACES, RGB, SHAPES, WHITE, render, sample_scene
from act2see.pocket.world import write_clip as write
from act2see.video import probe, read_frames


def test_a_seed_is_a_scene():
    assert sample_scene(5) == sample_scene(5) != sample_scene(6)


def test_no_overview_frame_shows_a_brief_event():
    for seed in range(300):
        scene = sample_scene(seed)
        for time_s in scene.overview_times():
            assert not any(e.start_s <= time_s < e.end_s for e in scene.events)


def test_a_named_window_holds_one_event_of_its_kind():
    for seed in range(300):
        scene = sample_scene(seed)
        for kind in ("turn", "visit"):
            events = [e for e in scene.events if e.kind == kind]
            for event in events:
                if event.start_s <= scene.wall_change_s < event.end_s:
                    continue
                low, high = event.window_s, event.window_s + 2
                assert low <= event.start_s and event.end_s <= high <= scene.duration_s
                assert sum(e.start_s <= high and e.end_s > low for e in events) == 1


def test_scenes_vary():
    scenes = [sample_scene(s) for s in range(400)]
    assert {len(s.things) for s in scenes} == {2, 3, 4}
    assert {t.shape for s in scenes for t in s.things} == set(SHAPES)
    assert {t.colour for s in scenes for t in s.things} == set(COLOURS)
    assert {t.place for s in scenes for t in s.things} == set(PLACES)
    assert {s.duration_s for s in scenes} == {24.0, 32.0, 40.0}
    assert {s.wall for s in scenes} == {"dark", "light"}


def nearest_colour(pixel: np.ndarray) -> str:
    palette = {**RGB, "white": WHITE}
    return min(palette, key=lambda c: np.abs(np.array(palette[c]) - pixel.astype(int)).sum())


def test_facts_are_what_the_decoded_clip_shows(tmp_path):
    """The middle of each cell of each decoded frame has the colour that the facts give it."""
    for seed in range(3):
        scene = sample_scene(seed)
        path = write(scene, tmp_path / f"{seed}.mp4")
        times = np.sort([*scene.overview_times(), *(e.start_s + 0.25 for e in scene.events)])
        images, times_s = read_frames(path, times)
        np.testing.assert_allclose(times_s, np.floor(times * 8) / 8, atol=1e-6)
        for image, time_s in zip(images, times_s, strict=True):
            facts, pixels = scene.facts(float(time_s)), np.asarray(image)
            for colour, place in facts.things.values():
                row, column = (16 + 32 * cell for cell in PLACES[place])
                pixel = pixels[row - 1 : row + 2, column - 1 : column + 2].mean((0, 1))
                assert nearest_colour(pixel) == colour
            if facts.visitor:
                assert nearest_colour(pixels[47:50, 47:50].mean((0, 1))) == facts.visitor[1]
            corner = pixels[2:6, 2:6].mean()
            assert (corner > 90) == (facts.wall == "light")


def test_a_clip_is_h264_of_the_promised_length(tmp_path):
    scene = sample_scene(9)
    video = probe(write(scene, tmp_path / "clip.mp4"))
    assert (video.duration_s, video.fps, video.width) == (scene.duration_s, 8, 96)
    assert not list(tmp_path.glob("*.partial*"))


def test_render_draws_each_moment_alone():
    scene = sample_scene(2)
    times = np.array([1.0, 7.5, 3.25])
    together = render(scene, times)
    for frame, time_s in zip(together, times, strict=True):
        assert np.array_equal(frame, render(scene, np.array([time_s]))[0])


def test_two_processes_may_write_the_same_clips(tmp_path):
    """What a killed process leaves is removed; one that still writes is let be."""
    code = "import sys, pathlib; from act2see.pocket.questions import pocket_questions\n"
    code += "pocket_questions('test', 5, 12, pathlib.Path(sys.argv[1]))"
    (tmp_path / "x.mp4.4194399.partial").write_bytes(b"half")
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    assert len(list(tmp_path.glob("*.mp4"))) == len(list(tmp_path.iterdir())) == 12
