import pytest

from act2see.datasets import lengths
from act2see.datasets.lengths import cache_file, length_s
from act2see.pocket.world import sample_scene, write_clip
from act2see.video import VideoError, probe


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The paths that were opened for their length, with a cache of its own."""
    paths = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lengths, "probe", lambda path: paths.append(path) or probe(path))
    return paths


def test_a_file_is_opened_once_and_again_when_it_changed(tmp_path, opened):
    path = write_clip(sample_scene(5), tmp_path / "a.mp4")
    assert length_s(path) == length_s(path) == probe(path).duration_s
    assert opened == [path] and cache_file().is_file()
    path.write_bytes(path.read_bytes() + b"more")
    assert length_s(path) == probe(path).duration_s and opened == [path, path]


@pytest.mark.parametrize("cache", ["is damaged", "cannot be made"])
def test_without_a_cache_lengths_are_measured(cache, tmp_path, opened):
    path = write_clip(sample_scene(5), tmp_path / "a.mp4")
    if cache == "is damaged":
        cache_file().parent.mkdir(parents=True)
        cache_file().write_bytes(b"no table " * 999)
    else:
        (tmp_path / "cache").touch()
    assert length_s(path) == length_s(path) == probe(path).duration_s
    assert opened == [path, path]


def test_what_cannot_be_read_is_said_and_not_remembered(tmp_path, opened):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for name in ("a.mp4", "a.mp4", "none.mp4", "a\0b"):
        with pytest.raises(VideoError):
            length_s(tmp_path / name)
    assert len(opened) == 4
