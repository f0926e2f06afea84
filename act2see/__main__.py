"""From a shell: `python -m act2see ask VIDEO QUESTION` prints a trace, `export` writes for others.

Works on the command line's words. Knows nothing of models: `face.ask` and `export` do. Our choice.
"""

import argparse
import sys
import warnings
from pathlib import Path

from act2see.plain import printable


def main(words: list[str] | None = None) -> int:
    """Run the command in `words`; 0, or 2 with a line that says what is wrong."""
    options = _parser().parse_args(words)
    warnings.simplefilter("ignore")  # of libraries, about their own future
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"act2see: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m act2see", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", help="ask a question about a video")
    ask.set_defaults(run=_ask)
    ask.add_argument("video", help="path of the video")
    ask.add_argument("question", help="what to find out about it")
    ask.add_argument("--option", action="append", default=[], help="an option; once for each")
    ask.add_argument("--profile", default="", help="pocket, imagine, t4, large or paper")
    ask.add_argument("--adapter", help="folder of an adapter; the profile's unless given")
    ask.add_argument("--model", default="", help="of a chat server, asked instead of the student")
    ask.add_argument("--base-url", default="", help="of that server; the maker's own unless given")
    ask.add_argument("--max-calls", type=int, help="most calls; the profile's unless given")
    ask.add_argument("--html", type=Path, help="also write the trace as a page")
    export = commands.add_parser("export", help="write traces, an adapter or a checkpoint")
    export.set_defaults(run=_export)
    export.add_argument("what", choices=("traces", "adapter", "merged"))
    export.add_argument("source", type=Path, help="file of traces, or folder of an adapter")
    export.add_argument("folder", type=Path, help="where to write")
    export.add_argument("--profile", default="pocket", help="whose student and system text")
    export.add_argument("--student", default="", help="folder or hub name; the profile's")
    export.add_argument("--results", type=Path, help="results.csv of notebook 05, for the card")
    export.add_argument("--may-train", action="store_true", help="you hold the right to the data")
    return parser


def _ask(options: argparse.Namespace) -> None:
    from act2see.face import ask

    budget = {} if options.max_calls is None else {"max_calls": options.max_calls}
    trace = ask(
        options.video,
        options.question,
        options.option,
        profile=options.profile,
        adapter=options.adapter,
        model=options.model,
        base_url=options.base_url,
        **budget,
    )
    print(trace)
    if options.html:
        from act2see.viewer import save_page

        save_page(options.html, [trace])


def _export(options: argparse.Namespace) -> None:
    import pandas as pd

    from act2see.export import export_adapter, export_merged, export_traces
    from act2see.profiles import load_profile
    from act2see.store import read_traces
    from act2see.student import load_processor

    settings = load_profile(options.profile, student=options.student)
    if options.what == "traces":
        traces = read_traces(options.source)
        processor = load_processor(settings.student)
        rights = {"may_train": options.may_train}
        count = export_traces(traces, options.folder, processor, settings.system, **rights)
        print(f"{count} of {len(traces)} traces in {options.folder}")
        return
    if options.what == "adapter":
        results = pd.read_csv(options.results) if options.results else None
        export_adapter(options.source, options.folder, results)
    else:
        export_merged(options.source, settings.student, options.folder)
    print(*sorted(path.name for path in options.folder.iterdir()), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
