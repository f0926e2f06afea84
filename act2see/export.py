"""What others can load: traces as a `datasets` folder, an adapter with its card, one checkpoint.

Works on traces, a processor, and folders of adapters and bases. Knows nothing of how either came
about but what lies next to it. A trace goes out as the chat text that the student is trained on, in
parts that say who spoke: with the template that goes along, TRL's collator makes the same tokens
and the same labels of it. Our choice.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData
from pandas import DataFrame
from transformers import ProcessorMixin

from act2see.datasets import DATASETS, check_rights
from act2see.dialects import dialect_of
from act2see.dialects.dialect import PICTURE, Segment
from act2see.encoding import frames_of, tokenize
from act2see.files import replacing, saving, write_text
from act2see.student import ADAPTER, fingerprint, load_processor, load_student
from act2see.trace import Trace

WEIGHTS = "adapter_model.safetensors"
ROWS = 64  # in a file: pictures of more traces would fill the memory
MARKS = re.compile(rf"(\n?<\|im_start\|>\w+\n|<\|im_end\|>|{re.escape(PICTURE)})")
# Writes every part as it is. Loss falls on what was said, also where a frame interrupts it.
TEMPLATE = """\
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\\n' -}}
  {%- for part in message.content -%}
    {%- if part.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
    {%- elif part.spoken -%}{%- generation -%}{{- part.text -}}{%- endgeneration -%}
    {%- else -%}{{- part.text -}}{%- endif -%}
  {%- endfor -%}
  {%- if message.role == 'assistant' -%}
    {%- generation -%}{{- '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}
  {%- else -%}{{- '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
"""
OWN = "drawn and written by act2see, Apache-2.0"
FOREIGN = "its publisher's; the frames belong to whoever holds the rights in the videos"
STATED = {
    "minerva": "annotations CC-BY 4.0; the frames belong to whoever holds the videos' rights",
    "own": "not stated",
    "own_test": "not stated",
}
TRACES = """\
# {count} reasoning traces with frames

Dialogues about videos: a model thinks, calls a tool, is shown frames, and answers. Made with
act2see {version}, an independent reproduction of [Act2See](https://arxiv.org/abs/2605.01657).

| | |
|---|---|
| traces | {count} of {made}; left out: {left_out}, whose tokens depend on where a turn begins |
| written by | {teachers} |
| filter | {filter} |
| evidence | {retrieved} traces with a retrieved frame, {generated} with a generated one |
| frames | {frames} |

| source | traces | licence |
|---|---|---|
{sources}

**Columns.** `messages`: role and parts; `spoken` marks what the assistant said, and an `image` part
is the next of `images`. `conversations`: the same as texts, `<image>` for a frame. In TRL,
`SFTConfig(assistant_only_loss=True, chat_template_path="chat_template.jinja")` with the template of
this folder writes `messages` as they are. For LLaMA-Factory, `dataset_info.json` names the columns;
its template `qwen3_vl` writes the same text, and its loss also falls on the tag before a thought.
A frame is one image, also where the overview was a video.
"""
STUDENT = """\
# {title}

A low-rank adapter for `{base}`{origin}: it looks at a video again, in the middle of its reasoning.
Made with act2see {version}, an independent reproduction of
[Act2See](https://arxiv.org/abs/2605.01657).

**Data:** {data}. **Recipe:** {recipe}.

{scores}
"""


def export_traces(
    traces: Sequence[Trace],
    folder: Path,
    processor: ProcessorMixin,
    system: str = "",
    may_train: bool = False,
) -> int:
    """Write the traces as a `datasets` folder (Parquet, card, chat template); how many are in it.

    system: as the student was trained with. Left out are traces that `reads_alike` refuses. Raises
    ValueError for no traces, and for a source whose terms need `may_train`, your statement that you
    hold the right, and as `files.replacing`.
    """
    from datasets import Dataset, Features, Image, List, Value

    check_rights(traces, may_train)
    if not traces:
        raise ValueError("there are 0 traces to export; at least 1 is needed")
    text = Value("string")
    part = {"type": text, "text": text, "spoken": Value("bool")}
    features = Features(
        {"id": text, "source": text, "similarity": Value("float64")}
        | {"messages": List({"role": text, "content": List(part)})}
        | {"conversations": List({"role": text, "content": text}), "images": List(Image())}
    )
    # Other trainers read no two frames as one picture.
    single = [trace.model_copy(update={"overview_as_video": False}) for trace in traces]
    kept = [trace for trace in single if reads_alike(trace, processor, system)]
    data = folder / "data"
    former = set(data.glob("train-*.parquet"))
    for number, first in enumerate(range(0, len(kept), ROWS)):
        rows = [row(trace, processor, system) for trace in kept[first : first + ROWS]]
        file = data / f"train-{number:05d}.parquet"
        with replacing(file) as partial:
            Dataset.from_list(rows, features=features).to_parquet(partial)
        former.discard(file)
    # Of an earlier, larger set: `datasets` would read them too.
    for file in former:
        file.unlink(missing_ok=True)
    columns = {"messages": "conversations", "images": "images"}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user"}
    tags |= {"assistant_tag": "assistant", "system_tag": "system"}
    info = {"file_name": "data", "formatting": "sharegpt", "columns": columns, "tags": tags}
    write_text(folder / "dataset_info.json", json.dumps({"act2see": info}, indent=1))
    write_text(folder / "chat_template.jinja", TEMPLATE)
    write_text(folder / "README.md", traces_card(kept, len(traces)))
    return len(kept)


def row(trace: Trace, processor: ProcessorMixin, system: str = "") -> dict[str, Any]:
    """A trace as a row of the set."""
    segments, pictures = _written(trace, processor, system)
    turns = messages(segments)
    texts = [
        {"role": m["role"], "content": "".join(p["text"] or "<image>" for p in m["content"])}
        for m in turns
    ]
    return {
        "id": trace.question.id,
        "source": trace.question.source,
        "similarity": trace.similarity,
        "messages": turns,
        "conversations": texts,
        "images": [frame for picture in pictures for frame in frames_of(picture)],
    }


def messages(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """A dialogue's text as chat messages, in parts: texts, said or not, and images.

    >>> messages([Segment("<|im_start|>assistant\\nhm ", False), Segment("so<|im_end|>", True)])
    ... # doctest: +NORMALIZE_WHITESPACE
    [{'role': 'assistant', 'content': [{'type': 'text', 'text': 'hm ', 'spoken': False},
                                       {'type': 'text', 'text': 'so', 'spoken': True}]}]
    """
    found: list[dict[str, Any]] = []
    within = False
    for text, spoken in segments:
        for piece in filter(None, MARKS.split(text)):
            if mark := piece.lstrip("\n").startswith("<|im_start|>"):
                found.append({"role": piece.strip().removeprefix("<|im_start|>"), "content": []})
            elif within and piece == PICTURE:
                found[-1]["content"].append({"type": "image", "text": None, "spoken": False})
            elif within and piece != "<|im_end|>":
                found[-1]["content"].append({"type": "text", "text": piece, "spoken": spoken})
            # Behind the end of a turn there is only the line break that the template writes.
            within = mark or (within and piece != "<|im_end|>")
    return found


def reads_alike(trace: Trace, processor: ProcessorMixin, system: str = "") -> bool:
    """Whether the text gives the same tokens read whole and read speaker by speaker.

    Only then can a trainer that reads it whole tell which tokens the assistant said.
    """
    segments, pictures = _written(trace, processor, system)
    whole = [Segment("".join(segment.text for segment in segments), False)]
    apart = tokenize(segments, pictures, processor)
    return tokenize(whole, pictures, processor).ids == apart.ids


def _written(trace: Trace, processor: ProcessorMixin, system: str) -> tuple[list[Segment], list]:
    """The text of a trace, one segment for all that one speaker says in a row, and the pictures."""
    template = processor.apply_chat_template
    segments, pictures = dialect_of(trace).render(trace, template, False, system)
    turns = groupby(segments, key=lambda segment: segment.spoken)
    joined = [Segment("".join(s.text for s in turn), spoken) for spoken, turn in turns]
    return joined, pictures


def traces_card(traces: Sequence[Trace], made: int) -> str:
    """The card of a set of traces: what they are, whose, how they were chosen, how many."""
    sources = Counter(trace.question.source for trace in traces)
    rows = [f"| {name} | {count} | {licence(name)} |" for name, count in sources.items()]
    origins = [{frame.made for step in t.steps for frame in step.frames} for t in traces]
    scores = [trace.similarity for trace in traces if trace.similarity is not None]
    chosen = f"similarity to human reasoning {min(scores):.2f} or more" if scores else "none"
    writers = {" as ".join(filter(None, (t.policy, t.served))) for t in traces}
    data = DatasetCardData(
        license="apache-2.0" if set(sources) <= {"pocket"} else "other",
        task_categories=["video-text-to-text"],
        size_categories=["n<1K" if len(traces) < 1000 else "1K<n<10K"],
        tags=["act2see", "tool-use", "video-reasoning"],
    )
    text = TRACES.format(
        count=len(traces),
        made=made,
        left_out=made - len(traces),
        teachers=", ".join(sorted(writers)),
        filter=chosen,
        retrieved=sum("real" in kinds for kinds in origins),
        generated=sum("generated" in kinds for kinds in origins),
        frames=sum(len(trace.frames()) for trace in traces),
        sources="\n".join(rows),
        version=_version(),
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text}"


def licence(source: str) -> str:
    """What a card says of the rights in a source's questions and frames."""
    if source not in DATASETS:
        return "not stated"
    dataset = DATASETS[source]
    foreign = STATED.get(source, f"{FOREIGN}. {dataset.terms}".removesuffix(". "))
    return OWN if dataset.simulated else foreign


def export_adapter(
    adapter: Path, folder: Path, results: DataFrame | None = None, title: str = "act2see"
) -> None:
    """Copy an adapter into `folder`, with a card that names base, data, recipe and scores.

    results: rows like those of results.csv (system, family, n, accuracy, low, high, protocol);
    those of the system `act2see` are shown. Recipe and data are those of `run.json`, which
    fine-tuning left next to the adapter. Raises FileNotFoundError where there is no adapter, and
    as `files.replacing`.
    """
    fields = json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))
    # A folder on this machine means nothing elsewhere.
    name = fields["base_model_name_or_path"]
    base = Path(name).name if Path(name).is_absolute() or name.startswith((".", "~")) else name
    with replacing(folder / WEIGHTS) as partial:
        shutil.copy(adapter / WEIGHTS, partial)
    write_text(folder / ADAPTER, json.dumps(fields | {"base_model_name_or_path": base}, indent=1))
    beside = (adapter.parent / "run.json", adapter / "made.json")
    run = next((json.loads(file.read_text()) for file in beside if file.is_file()), {})
    recipe = run.get("recipe") or {"rank": fields["r"]}
    parts = [f"{key} {value}" for key, value in recipe.items()]
    parts += ["NF4 base"] if run.get("four_bit") else []
    count = run.get("training", run.get("traces"))
    data = ModelCardData(
        base_model=base if "/" in base else None,
        library_name="peft",
        license="apache-2.0",
        pipeline_tag="video-text-to-text",
        tags=["act2see", "lora"],
    )
    text = STUDENT.format(
        title=title,
        base=base,
        origin=f" (fingerprint {fields['revision']})" if fields.get("revision") else "",
        data=f"{count} kept traces" if count else "not recorded next to the adapter",
        recipe=", ".join(parts),
        scores=scores_text(results),
        version=_version(),
    )
    write_text(folder / "README.md", f"---\n{data.to_yaml()}\n---\n\n{text}")


def scores_text(results: DataFrame | None) -> str:
    """The student's rows as a table, each score with n and interval; a sentence for none."""
    if results is None:
        return "Scores: not measured."
    own = results[results.system == "act2see"]
    lines = ["| questions | n | accuracy | 95 % interval | protocol |", "|---|---|---|---|---|"]
    for score in own.itertuples():
        interval = f"{100 * score.low:.1f} to {100 * score.high:.1f}"
        cells = (score.family, score.n, f"{100 * score.accuracy:.1f} %", interval)
        lines.append(f"| {' | '.join(map(str, cells))} | {getattr(score, 'protocol', '')} |")
    return "\n".join(lines)


def export_merged(adapter: str | Path, checkpoint: str | Path, folder: Path) -> None:
    """Write base and adapter as one checkpoint, not quantised, which any server loads.

    Raises as `student.load_student` and `files.saving`. An adapter that was trained on a four-bit
    base meets the exact one here: its words are those of training but for what quantising cost.
    """
    merged = load_student(checkpoint, adapter, four_bit=False).merge_and_unload()
    # Where a base lies on this machine means nothing elsewhere.
    merged.name_or_path = merged.config.name_or_path = folder.name
    with saving(folder, "the adapter"):
        merged.save_pretrained(folder)
        load_processor(checkpoint).save_pretrained(folder)
    mark = {"base": fingerprint(checkpoint), "adapter": fingerprint(adapter)}
    write_text(folder / "merged.json", json.dumps(mark, indent=1))


def _version() -> str:
    from act2see import __version__

    return __version__
