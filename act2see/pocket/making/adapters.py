"""Makes the adapter that ships: `python -m act2see.pocket.making.adapters PROFILE FOLDER`.

What notebooks 01 to 03 do, in one go: the oracle answers questions of the split `train`, the filter
keeps what reasons like a person, and an adapter is trained on most of it. Works on the profiles
`pocket` and `imagine`; does not know those whose models lie elsewhere. Our choice.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from act2see.finetune import finetune, held_out_split
from act2see.interleave import collect
from act2see.pocket.making.training import command_line, record
from act2see.pocket.questions import pocket_questions
from act2see.profiles import IMAGINE, MEASURED, equip, load_profile
from act2see.similarity import keep, load_embedder, similarity
from act2see.teachers import load_teacher

HELD_OUT = 40  # traces that the loss is watched on
MISTAKES = 0.08  # rate of each of the oracle's
# Questions asked of it, and the recipe: with more of both than in `pocket` fewer calls go wrong.
LESSONS = {"pocket": (2400, replace(MEASURED, epochs=3)), "imagine": (2500, IMAGINE.recipe)}
FILES = ("adapter_model.safetensors", "adapter_config.json")


def make(profile: str, folder: str, seed: int) -> Path:
    """The folder of the adapter, and of its `made.json`; an interrupted run goes on."""
    out = Path(folder)
    settings = equip(load_profile(profile))
    families = settings.lessons or settings.families
    count, recipe = LESSONS[profile]
    questions = pocket_questions(
        "train", seed, count, out / "clips", families, per_clip=settings.per_clip
    )
    teacher = load_teacher("oracle", seed=seed, mistakes=MISTAKES, slips=settings.slips)
    traces = collect(out / "traces.jsonl", questions, teacher, settings.tools, settings.budget)
    kept = keep(similarity(traces, load_embedder(settings.embedder)))
    training, held = held_out_split(kept, HELD_OUT, seed)
    recipe = replace(recipe, seed=seed)
    run = out / "finetune"
    outcome = finetune(training, held, settings.student, run, recipe, system=settings.system)
    target = out / "adapter"
    target.mkdir(exist_ok=True)
    # Only what loading needs: checkpoints and the model card stay with the run.
    for file in FILES:
        shutil.copyfile(outcome.adapter / file, target / file)
    losses = [entry["eval_loss"] for entry in outcome.log if "eval_loss" in entry]
    facts = {"traces": len(training), "held_out_loss": round(losses[-1], 4)}
    record(target, f"adapters {profile} FOLDER", seed, 60 * outcome.minutes, **facts)
    return target


if __name__ == "__main__":
    make(**command_line(__doc__, "profile", "folder", seed=0))
