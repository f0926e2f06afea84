"""What would be seen if: four edits of a pocket frame, and the one law that they obey.

Works on `Scene`. Knows nothing of models or questions. No two shapes of a scene share a place or a
colour, and no edit makes them: whoever takes another's place or colour gives up its own in
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
        """The edit in words, as a generator is asked for it."""
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
    colour = str(rng.choice([c for c in COLOURS if c != thing.colour]))
    place = str(rng.choice([p for p in PLACES if p != thing.place]))
    chosen = {"paint": {"colour": colour}, "move": {"place": place}}.get(kind, {})
    return Edit(kind, thing.shape, **chosen)


def edited(scene: Scene, time_s: float, edit: Edit) -> Scene:
    """The scene as it would look at `time_s` after the edit; true at that moment only."""
    visits = tuple(e for e in scene.events if e.kind == "visit")
    things = {t.shape: t for t in scene.things}
    for event in scene.events:  # what a shape briefly is, it is in the frame that gets edited
        if event.kind != "visit" and event.during(time_s):
            things[event.shape] = replace(things[event.shape], colour=event.colour, rgb=event.rgb)
    mine = things.get(edit.shape)
    if edit.kind == "add":
        new = Event("visit", time_s, time_s + 0.1, edit.shape, edit.colour, RGB[edit.colour])
        visits = (*(e for e in visits if not e.during(time_s)), new)
    elif edit.kind == "remove":
        del things[edit.shape]
    elif edit.kind == "move":
        for shape, thing in things.items():
            if thing.place == edit.place:
                things[shape] = replace(thing, place=mine.place)
        things[edit.shape] = replace(mine, place=edit.place)
    else:
        rgb = RGB[edit.colour]
        for shape, thing in things.items():
            if thing.colour == edit.colour:
                rgb = thing.rgb
                things[shape] = replace(thing, colour=mine.colour, rgb=mine.rgb)
        things[edit.shape] = replace(mine, colour=edit.colour, rgb=rgb)
    return replace(scene, things=tuple(things.values()), events=visits)
