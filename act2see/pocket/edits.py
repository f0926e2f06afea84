"""What would be seen if: four edits of a pocket frame, and the one law that they obey.

Works on `Scene`. Does not know models or questions. No two shapes of a scene share a place or a
colour, and no edit changes that: whoever takes another's place or colour gives up its former one in
exchange. The generator learns this law from pairs of frames; no text says it. Our choice.
"""

from dataclasses import dataclass, replace

from act2see.pocket.world import COLOURS, PLACES, RGB, SHAPES, Event, Rng, Scene

KINDS = ("remove", "paint", "add", "move")


@dataclass(frozen=True)
class Edit:
    """One change: `kind`, the shape it befalls, and its new colour or place."""

    kind: str
    shape: str
    colour: str = ""
    place: str = ""

    def prompt(self) -> str:
        """The edit in words, for a generator.

        >>> Edit("move", "disc", place="left").prompt()
        'move the disc to the left'
        """
        return {
            "remove": f"remove the {self.shape}",
            "paint": f"paint the {self.shape} {self.colour}",
            "add": f"add a {self.colour} {self.shape}",
            "move": f"move the {self.shape} to the {self.place}",
        }[self.kind]


def sample_edit(scene: Scene, rng: Rng, kind: str = "") -> Edit:
    """An edit that changes something in this scene, of this kind or of any."""
    kind = kind or str(rng.choice(KINDS))
    thing = scene.things[int(rng.integers(len(scene.things)))]
    if kind == "add":
        return Edit(kind, str(rng.choice(SHAPES)), str(rng.choice(COLOURS)))
    # Both are drawn whatever the kind, so that the draws that follow do not depend on it.
    colour = str(rng.choice([c for c in COLOURS if c != thing.colour]))
    place = str(rng.choice([p for p in PLACES if p != thing.place]))
    change = {"paint": {"colour": colour}, "move": {"place": place}}
    return Edit(kind, thing.shape, **change.get(kind, {}))


def edited(scene: Scene, time_s: float, edit: Edit) -> Scene:
    """The scene as it would look at `time_s` after the edit; true at that moment only."""
    visits = [e for e in scene.events if e.kind == "visit"]
    things = {t.shape: t for t in scene.things}
    # What a shape briefly is, it is in the frame that gets edited; the edit changes that frame.
    for event in scene.events:
        if event.kind != "visit" and event.during(time_s):
            things[event.shape] = replace(things[event.shape], colour=event.colour, rgb=event.rgb)
    if edit.kind == "add":
        # There is room for one visitor: a new one sends away whoever is there.
        visits = [e for e in visits if not e.during(time_s)]
        looks = (edit.shape, edit.colour, RGB[edit.colour])
        visits.append(Event("visit", time_s, time_s + 0.1, *looks))
    elif edit.kind == "remove":
        del things[edit.shape]
    elif edit.kind == "move":
        mine = things[edit.shape]
        owners = [t for t in things.values() if t.place == edit.place]
        things |= {t.shape: replace(t, place=mine.place) for t in owners}
        things[edit.shape] = replace(mine, place=edit.place)
    else:
        mine = things[edit.shape]
        owners = [t for t in things.values() if t.colour == edit.colour]
        things |= {t.shape: replace(t, colour=mine.colour, rgb=mine.rgb) for t in owners}
        # A colour changes hands with its shade; one that nobody has comes in its pure form.
        rgb = owners[-1].rgb if owners else RGB[edit.colour]
        things[edit.shape] = replace(mine, colour=edit.colour, rgb=rgb)
    return replace(scene, things=tuple(things.values()), events=tuple(visits))
