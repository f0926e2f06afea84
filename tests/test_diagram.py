"""The diagram of a lesson: every box there, in order, named for those who do not see it."""

from xml.etree import ElementTree

from act2see.diagram import flow
from act2see.style import BLUE

SVG = "{http://www.w3.org/2000/svg}"


def test_boxes_stand_in_order_with_arrows_between_them():
    page = ElementTree.fromstring(flow({"one": "first", "two": "", "three": "last"}, "two").svg)
    boxes = page.findall(f"{SVG}rect")
    places = [int(box.get("x")) for box in boxes]
    assert places == sorted(places) and len(places) == 3
    assert [box.get("stroke") == BLUE for box in boxes] == [False, True, False]
    assert len(page.findall(f"{SVG}path")) == 2
    assert max(places) + int(boxes[0].get("width")) <= int(page.get("width"))


def test_the_picture_has_words_and_a_models_text_is_escaped():
    page = ElementTree.fromstring(flow({"a<b": "x & y", "c": ""}).svg)
    assert page.find(f"{SVG}title").text == "a<b → c"
    assert [text.text for text in page.findall(f"{SVG}text")] == ["a<b", "x & y", "c", None]
