"""Colours of frames: today's for real and generated, one for every other word."""

import re

import pytest

from act2see.style import BLUE, GREEN, ORANGE, PALETTE, RED, frame_colour

WORDS = ("cropped", "zoomed", "blurred", "simulated", "Real", "super-resolved", "é", "a b")


@pytest.mark.parametrize("real", [BLUE, ORANGE])
def test_real_frames_keep_the_colour_of_their_place_and_generated_ones_are_green(real):
    assert frame_colour("real", real) == real
    assert frame_colour("generated", real) == GREEN


def test_every_other_word_has_a_colour_that_means_nothing_else():
    colours = [frame_colour(word, BLUE) for word in WORDS]
    assert len(set(colours)) == len(WORDS)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in colours)
    assert not {BLUE, ORANGE, GREEN, RED, *PALETTE} & {*colours}


def test_a_word_has_the_same_colour_in_every_run_and_place():
    assert frame_colour("cropped", BLUE) == frame_colour("cropped", ORANGE) == "#612CDA"
