"""Frames and times of `act2see.video` against a slow reference: decode from the file's start."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from act2see import video
from act2see.pocket.world import sample_scene, write_clip
from act2see.video import VideoError, nearest_frames, probe, read_frames

DATA = Path(__file__).parents[2] / "shared" / "data" / "videos"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real videos at {DATA}")
H264 = {"crf": "8", "g": "12", "threads": "1"}
KINDS = {
    "mp4": ("libx264", "clip.mp4", H264),
    "fragmented": ("libx264", "fragmented.mp4", H264),
    "mkv": ("libx264", "clip.mkv", H264),
    "open groups": ("libx264", "open.mp4", H264 | {"x264-params": "open-gop=1:bframes=3"}),
    "transport stream": ("libx264", "clip.ts", H264),
    "hevc": ("libx265", "hevc.mp4", {"x265-params": "log-level=none:keyint=12:pools=1"}),
    "vp9": ("libvpx-vp9", "vp9.webm", {"g": "12"}),
    "av1": ("libsvtav1", "av1.mp4", {"preset": "10", "g": "12"}),
}


def write(
    path: Path, codec="libx264", options=H264, stamps=range(60), muxer=None, pixels="yuv420p"
) -> Path:
    """A 64 x 48 clip, 10 stamps a second; picture i is grey 4 * i, its upper left white."""
    if codec not in av.codecs_available:
        pytest.skip(f"this av cannot write {codec}")
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for i, stamp in enumerate(stamps):
            picture = np.full((48, 64, 3), 4 * i, np.uint8)
            picture[:24, :32] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(autouse=True)
def by_decord(monkeypatch):
    """The clips of these tests are small; what decord hands out is tested on them all the same."""
    monkeypatch.setattr(video, "LARGE", 0)


def number(picture: Image.Image) -> int:
    return round(float(np.asarray(picture)[30:].mean()) / 4)


def reference(path: Path, wanted=None) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Every frame's time, and upright pixels of those wanted, as far as the file is whole."""
    times_s, pictures = [], {}
    with av.open(str(path)) as container:
        try:
            for i, frame in enumerate(container.decode(container.streams.best("video"))):
                times_s.append(frame.time)
                if wanted is None or i in wanted:
                    pixels = frame.to_ndarray(format="rgb24")
                    pictures[i] = np.rot90(pixels, frame.rotation // 90)
        except av.FFmpegError:
            pass
    return np.array(times_s), pictures


def same(picture: Image.Image, pixels: np.ndarray) -> bool:
    """Equal but for rounding in two decoders' colour conversion."""
    if picture.size != pixels.shape[1::-1]:
        return False
    return bool(np.abs(np.asarray(picture, dtype=np.int16) - pixels).mean() < 1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "clip.mp4")


def test_pocket_clip_shows_at_each_moment_the_last_frame_begun(tmp_path):
    scene = sample_scene(3)
    path = write_clip(scene, tmp_path / "scene.mp4")
    times_s, pictures = reference(path)
    moments = np.random.default_rng(0).uniform(0, scene.duration_s, 40)
    got, at_s = read_frames(path, moments)
    for moment, picture, time_s in zip(moments, got, at_s, strict=True):
        last = max(i for i, t in enumerate(times_s) if t <= moment)
        assert same(picture, pictures[last])
        assert time_s == pytest.approx(times_s[last], abs=1e-6)
    held = probe(path)
    assert (len(held.times_s), held.fps, held.width, held.height) == (len(times_s), 8, 96, 96)
    assert held.duration_s == scene.duration_s


@pytest.mark.parametrize("decord", ["installed", "missing"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_frame_asked_for(kind, decord, tmp_path, monkeypatch):
    if decord == "missing":
        monkeypatch.setitem(sys.modules, "decord", None)
    codec, name, options = KINDS[kind]
    muxer = {"movflags": "frag_keyframe+empty_moov"} if kind == "fragmented" else None
    path = write(tmp_path / name, codec, options, muxer=muxer)
    assert probe(path).duration_s == pytest.approx(6.0)
    for seed in range(4):
        wanted = np.random.default_rng(seed).integers(0, 60, 9)
        got, at_s = read_frames(path, wanted / 10 + 0.03)
        assert [number(p) for p in got] == wanted.tolist()
        assert at_s == pytest.approx(wanted / 10)


def test_av1_is_read_although_decord_cannot(tmp_path):
    index = video.probe(write(tmp_path / "av1.mp4", *KINDS["av1"][::2]))
    assert video._by_decord(index, np.array([3]), (64, 48)) is None
    assert number(video._by_pyav(index, np.array([3]), (64, 48))[3]) == 3


def test_without_decord_the_frames_are_the_same(tmp_path, monkeypatch):
    path = write_clip(sample_scene(4), tmp_path / "scene.mp4")
    moments = np.linspace(0, probe(path).duration_s, 23)
    before, before_s = read_frames(path, moments)
    video._KEPT.clear()
    monkeypatch.setitem(sys.modules, "decord", None)
    after, after_s = read_frames(path, moments)
    assert after_s.tolist() == before_s.tolist()
    assert all(same(a, np.asarray(b)) for a, b in zip(after, before, strict=True))


def test_a_file_that_decord_reads_is_not_read_twice(clip, monkeypatch):
    monkeypatch.setattr(video, "_by_pyav", None)
    assert number(read_frames(clip, [2.0])[0][0]) == 20


def test_small_pictures_are_left_to_pyav(clip, monkeypatch):
    monkeypatch.setattr(video, "LARGE", 64 * 48 + 1)
    monkeypatch.setattr(video, "_by_decord", None)
    assert number(read_frames(clip, [2.0])[0][0]) == 20


def test_uneven_times(tmp_path):
    stamps = [0, 1, 2, 10, 11, 40, 41, 42]
    path = write(tmp_path / "uneven.mp4", stamps=stamps)
    got, at_s = read_frames(path, [0.95, 1.0, 3.99, 4.0, 0.2])
    assert [number(p) for p in got] == [2, 3, 4, 5, 2]
    assert at_s == pytest.approx([0.2, 1.0, 1.1, 4.0, 0.2])


def test_hidden_frames_of_a_trimmed_file_are_not_counted(clip, tmp_path):
    path = tmp_path / "trimmed.mp4"
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                shift = int(0.5 / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    stream,
                )
                target.mux(packet)
    assert (len(probe(path).times_s), probe(path).duration_s) == (55, pytest.approx(5.5))
    assert [number(p) for p in read_frames(path, [0.0, 2.5])[0]] == [5, 30]


def hidden(path: Path, codec: str, pixels: str, shown_bit: int) -> Path:
    """A clip whose later key frames stand before themselves once more, not to be shown."""
    whole = write(path.with_stem("whole"), codec, {"g": "12"}, pixels=pixels)
    # Without it the muxer joins such a frame to the next.
    muxer = {"fflags": "-autobsf"}
    with av.open(str(whole)) as source, av.open(str(path), "w", options=muxer) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.is_keyframe and packet.pts:
                data = bytearray(bytes(packet))
                data[0] &= ~shown_bit
                other = av.Packet(bytes(data))
                other.pts = other.dts = packet.pts - 10
                other.time_base, other.stream = packet.time_base, stream
                target.mux(other)
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.mark.parametrize(
    ("codec", "pixels", "shown_bit"),
    [
        ("libvpx-vp9", "yuv420p", 0x02),
        ("libvpx-vp9", "yuv444p", 0x02),
        ("libvpx", "yuv420p", 0x10),
    ],
)
def test_frames_that_are_never_shown_are_not_listed(codec, pixels, shown_bit, tmp_path):
    path = hidden(tmp_path / "hidden.webm", codec, pixels, shown_bit)
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 64
    assert probe(path).times_s == pytest.approx(np.arange(60) / 10)
    wanted = np.random.default_rng(0).integers(0, 60, 9)
    _, pictures = reference(path)
    got, _ = read_frames(path, wanted / 10)
    assert all(same(p, pictures[i]) for p, i in zip(got, wanted, strict=True))


@pytest.mark.parametrize(
    ("first_byte", "never_shown"),
    # Marker, profile 0 or 3, which has one bit more; shown again; no key frame; shown.
    [
        (0b10_00_0_1_1_0, False),
        (0b10_00_0_1_0_0, True),
        (0b10_00_1_000, False),
        (0b10_11_0_0_1_1, False),
        (0b10_11_0_0_1_0, True),
        (0b10_11_0_1_00, False),
    ],
)
def test_a_header_says_whether_a_frame_is_shown(first_byte, never_shown):
    assert video._never_shown("vp9", bytes([first_byte, 0])) == never_shown
    assert not video._never_shown("vp9", bytes([first_byte, 0b110_00001]))


def test_a_title_in_another_encoding_hides_no_frame(tmp_path):
    path = tmp_path / "titled.mp4"
    with av.open(str(path), "w", metadata_encoding="latin-1") as container:
        container.metadata["title"] = "caf\xe9"
        stream = container.add_stream("libx264", rate=10)
        container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), "red"))))
        container.mux(stream.encode())
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert len(probe(path).times_s) == len(read_frames(path, [0.0])[0]) == 1


@pytest.mark.parametrize("frames", [1, 2, 20, 60])
def test_a_transport_stream_may_be_short(frames, tmp_path):
    path = write(tmp_path / "short.ts", stamps=range(frames))
    assert probe(path).times_s == pytest.approx(np.arange(frames) / 10)
    assert number(read_frames(path, [frames / 10 - 0.1])[0][0]) == frames - 1


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif"])
def test_a_picture_is_a_video_of_one_frame(ending, tmp_path):
    path = tmp_path / f"frame_all_prev.{ending}"
    Image.new("RGB", (512, 64), (200, 0, 0)).save(path)
    held = probe(path)
    assert (held.width, held.height, held.times_s.tolist()) == (512, 64, [0.0])
    picture = read_frames(path, [0.0, held.duration_s])[0][1]
    assert np.abs(np.asarray(picture, int) - (200, 0, 0)).max() < 5


def test_b_frames_in_avi_are_exact_or_refused_with_the_reason(tmp_path):
    exact = write(tmp_path / "exact.avi", "mpeg4", {"bf": "2", "g": "12", "q": "1"})
    times_s, pictures = reference(exact)
    got, at_s = read_frames(exact, times_s)
    assert at_s == pytest.approx(times_s) and all(map(same, got, pictures.values()))
    broken = write(tmp_path / "broken.avi", options=H264 | {"bf": "3"})
    with pytest.raises(
        VideoError, match=r"broken\.avi: time stamps are out of order from frame \d"
    ):
        probe(broken)


def test_order_is_kept_and_a_frame_asked_for_twice_is_decoded_once(clip, monkeypatch):
    made = []
    monkeypatch.setattr(video, "_picture", lambda *a: made.append(a) or Image.fromarray(a[0]))
    got, at_s = read_frames(clip, [4.0, 0.5, 4.05, 0.5])
    assert [number(p) for p in got] == [40, 5, 40, 5]
    assert at_s.tolist() == [4.0, 0.5, 4.0, 0.5]
    assert len(made) == 2


def test_a_frame_asked_for_again_later_is_not_decoded_again(clip, monkeypatch):
    first = read_frames(clip, [1.0, 2.0], 48)[0]
    monkeypatch.setattr(video, "_by_decord", None)
    again = read_frames(clip, [2.0, 1.0], 48)[0]
    assert again[0] is first[1] and again[1] is first[0]


def test_kept_pictures_have_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_KEPT", type(video._KEPT)(50e3, video._KEPT.getsizeof))
    path = write(tmp_path / "clip.mp4")
    assert [number(p) for p in read_frames(path, np.arange(60) / 10)[0]] == list(range(60))
    assert video._KEPT.currsize <= 50e3


def test_no_moments_give_no_frames(clip):
    got, at_s = read_frames(clip, [])
    assert (got, at_s.shape) == ([], (0,))


def test_pictures_shrink_and_never_grow(clip):
    assert [read_frames(clip, [1.0], side)[0][0].size for side in (0, 32, 500)] == [
        (64, 48),
        (32, 24),
        (64, 48),
    ]


def test_half_a_frame_outside_is_forgiven_and_more_is_not(clip):
    assert [number(p) for p in read_frames(clip, [-0.04, 6.04])[0]] == [0, 59]
    for moment in (-0.06, 6.06, 99.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"moment {moment:g} s is not within 0 to 6\.000 s"):
            read_frames(clip, [1.0, moment])


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_files_are_handed_out_upright(clip, tmp_path, turn):
    cos, sin = round(np.cos(np.radians(turn))) << 16, round(np.sin(np.radians(turn))) << 16
    data = bytearray(clip.read_bytes())
    data[(at := data.index(b"tkhd") + 44) : at + 36] = struct.pack(
        ">9i", cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30
    )
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    upright = np.rot90(np.asarray(read_frames(clip, [1.0])[0][0]), -turn // 90)
    picture = read_frames(path, [1.0])[0][0]
    assert same(picture, upright)
    assert (probe(path).width, probe(path).height) == picture.size


def _without_video(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())


def _cut(path: Path, muxer=None, frame=None) -> None:
    write(path, muxer=muxer)
    keep = int(path.stat().st_size * 0.7)
    if frame is not None:
        with av.open(str(path)) as container:
            keep = [p.pos for p in container.demux(video=0) if p.size][frame]
    os.truncate(path, keep)


def _zero_the_middle(path: Path) -> None:
    write(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    length = data.index(b"moov") - start
    first, last = start + 9 * length // 20, start + 12 * length // 20
    data[first:last] = bytes(last - first)
    path.write_bytes(data)


def test_a_damaged_middle_is_refused_and_the_rest_is_read(tmp_path):
    path = tmp_path / "middle.mp4"
    _zero_the_middle(path)
    assert len(probe(path).times_s) == 60
    assert number(read_frames(path, [0.0])[0][0]) == 0
    with pytest.raises(VideoError, match=r"middle\.mp4: "):
        read_frames(path, [0.0, 1.0])
    assert number(read_frames(path, [5.9])[0][0]) == 59


def test_an_open_file_does_not_decode_on(clip):
    read_frames(clip, [4.4])
    _, reader = video._READERS[probe(clip), (64, 48)]
    assert round(float(reader.next().asnumpy()[30:].mean()) / 4) == 0


def test_open_files_are_bounded_by_bytes_and_by_count(clip):
    held = probe(clip)
    for side_px, most in ((64, 64), (1080, 16), (8000, 1)):
        readers = type(video._READERS)(video.OPEN_BYTES, getsizeof=video._open_bytes)
        for i in range(80):
            readers[i] = (replace(held, width=16 * side_px // 9, height=side_px), None)
        assert 1 <= len(readers) <= most


def test_an_interpreter_ends_while_a_decoder_is_open(clip):
    code = f"""
import numpy as np
from act2see import video
video.read_frames({str(clip)!r}, [1.0])
held = video.probe({str(clip)!r})
video._reader(held, (64, 48))[40]
"""
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


FAST = {"movflags": "faststart"}
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nclip.mp4\n#EXT-X-ENDLIST\n"
DAMAGE = {
    "missing": (lambda p: None, "No such file"),
    "a folder": (Path.mkdir, "directory"),
    "empty": (Path.touch, "0 bytes, not video"),
    "text": (lambda p: p.write_text("no video here\n" * 99), "not video"),
    "no video": (_without_video, "holds no video"),
    "cut before its header": (_cut, "not video"),
    "cut inside a frame": (lambda p: _cut(p, FAST), "damaged, cut off"),
    "a pipe": (os.mkfifo, "must be a file"),
    "a name that is too long": (lambda p: None, "File name too long", "x" * 300),
    "a name with a zero": (lambda p: None, "null byte", "a\0b"),
    "a text that ffmpeg draws": (lambda p: p.write_text("none\n" * 99), "not video", "a.txt"),
    "a playlist": (lambda p: p.write_text(PLAYLIST), "not video", "a.m3u8"),
    "a list of files": (lambda p: p.write_text("ffconcat version 1.0\nfile a"), "not video"),
    "a line of pixels": (lambda p: Image.new("RGB", (1, 4000)).save(p, "PNG"), "200 times as long"),
    "a wall of pixels": (lambda p: Image.new("1", (9000, 9000)).save(p, "PNG"), "67108864 pixels"),
    "cut between frames": (lambda p: _cut(p, FAST, 30), "cut off after 30 of 60 frames"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_files_that_are_no_video_are_named_and_explained(kind, tmp_path):
    damage, message, *names = DAMAGE[kind]
    path = tmp_path / (names or ["broken.mp4"])[0]
    damage(path)
    for read in (probe, lambda p: read_frames(p, [0.0])):
        with pytest.raises(VideoError, match=rf"{re.escape(path.name)}: .*{message}"):
            read(path)


def test_a_file_is_scanned_once_and_again_when_it_changed(clip, tmp_path):
    path = Path(shutil.copy(clip, tmp_path / "clip.mp4"))
    before = video._scan.cache_info().misses
    probe(path), probe(path), read_frames(path, [0.0])
    assert video._scan.cache_info().misses == before + 1
    write(path, stamps=range(20))
    assert len(probe(path).times_s) == 20


def test_nearest_frames_agrees_with_a_loop():
    rng = np.random.default_rng(0)
    times_s = np.cumsum(rng.uniform(0.02, 0.3, 50))
    wanted_s = rng.uniform(0, times_s[-1], 200)
    slow = [max([0, *(i for i, t in enumerate(times_s) if t <= w)]) for w in wanted_s]
    assert nearest_frames(times_s, wanted_s).tolist() == slow
    assert nearest_frames(np.array([0.0, 0.5, 1.0]), np.array([0.7])).tolist() == [1]
    assert nearest_frames(times_s, times_s).tolist() == list(range(50))


def test_nearest_frames_refuses_moments_outside():
    times_s = np.array([0.0, 0.5, 1.0])
    assert nearest_frames(times_s, [1.7, -0.2]).tolist() == [2, 0]
    for moment in (1.8, -0.3, np.nan):
        with pytest.raises(ValueError, match=r"not within 0 to 1\.500 s"):
            nearest_frames(times_s, [moment])


@real
def test_nasa_frame_times_agree_with_the_reference():
    rows = json.loads((DATA / "nasa_13013.mp4.stream3.all_frames_info.json").read_text())
    times_s = np.array([float(frame["pts_time"]) for frame in rows])
    got, at_s = read_frames(DATA / "nasa_13013.mp4", times_s, max_side_px=16)
    assert np.abs(at_s - times_s).max() < 1e-6
    assert (len(got), got[0].size) == (390, (16, 9))
    held = probe(DATA / "nasa_13013.mp4")
    assert (len(held.times_s), held.width, held.height) == (390, 480, 270)
    assert held.duration_s == pytest.approx(13.013, abs=1e-5)
    assert held.fps == pytest.approx(30000 / 1001)


@real
@pytest.mark.parametrize(
    "name, frames, duration_s, width, height",
    [
        ("car-detection.mp4", 377, 30.16, 768, 432),
        ("bottle-detection.mp4", 1189, 39.854749, 640, 360),
        ("bigbuckbunny.mp4", 132, 5.28, 1280, 720),
        ("decord_unordered.mov", 4, 0.125, 50, 50),
        ("decord_video_0.mov", 3, 0.1, 568, 320),
        ("decord_video_90.mov", 3, 0.1, 320, 568),
    ],
)
def test_real_files_give_what_decoding_from_the_start_gives(
    name, frames, duration_s, width, height
):
    held = probe(DATA / name)
    assert (len(held.times_s), held.width, held.height) == (frames, width, height)
    assert held.duration_s == pytest.approx(duration_s, abs=1e-5)
    wanted = np.random.default_rng(1).integers(0, frames, 6)
    times_s, pictures = reference(DATA / name, wanted)
    got, at_s = read_frames(DATA / name, times_s[wanted])
    assert at_s == pytest.approx(times_s[wanted], abs=1e-6)
    assert all(same(p, pictures[i]) for p, i in zip(got, wanted, strict=True))


@real
@pytest.mark.parametrize("name", ["car-detection.mp4", "decord_video_90.mov", "nasa_13013.mp4"])
def test_decord_and_pyav_hand_out_the_same_pictures(name):
    index = video.probe(DATA / name)
    wanted = np.unique(np.linspace(0, len(index.pts) - 1, 5).astype(int))
    whole, half = (index.width, index.height), (index.width // 2, index.height // 2)
    pyav = video._by_pyav(index, wanted, whole)
    for i, picture in video._by_decord(index, wanted, whole).items():
        assert same(picture, np.asarray(pyav[i]))
    for i, picture in video._by_decord(index, wanted, half).items():
        shrunk = np.asarray(pyav[i].resize(half), dtype=np.int16)
        assert np.abs(np.asarray(picture) - shrunk).mean() < 4  # two ways of shrinking


@real
def test_damaged_frames_are_refused_and_whole_ones_are_read():
    path = DATA / "decord_corrupted.mp4"
    times_s, pictures = reference(path, [20])
    assert len(times_s) == 28 < len(probe(path).times_s)
    assert same(read_frames(path, times_s[20:21])[0][0], pictures[20])
    with pytest.raises(VideoError, match=r"decord_corrupted\.mp4: damaged"):
        read_frames(path, [0.0, 4.0])
