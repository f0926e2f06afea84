"""From a shell: `python -m act2see ask VIDEO QUESTION`, which prints the trace.

Works on the command line's words. Knows nothing of models: `face.ask` does. Our choice.
"""

import argparse
import sys
import warnings
from pathlib import Path


def main(words: list[str] | None = None) -> int:
    """Run the command in `words`; 0, or 2 with a line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m act2see", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", help="ask a question about a video")
    ask.add_argument("video", help="path of the video")
    ask.add_argument("question", help="what to find out about it")
    ask.add_argument("--option", action="append", default=[], help="an option; once for each")
    ask.add_argument("--profile", default="pocket", help="pocket, imagine, t4 or paper")
    ask.add_argument("--adapter", help="folder of an adapter; the profile's unless given")
    ask.add_argument("--max-calls", type=int, help="most calls; the profile's unless given")
    ask.add_argument("--html", type=Path, help="also write the trace as a page")
    options = parser.parse_args(words)
    budget = {} if options.max_calls is None else {"max_calls": options.max_calls}
    warnings.simplefilter("ignore")  # of libraries, about their own future
    from act2see.face import ask as answer

    try:
        trace = answer(
            options.video,
            options.question,
            options.option,
            profile=options.profile,
            adapter=options.adapter,
            **budget,
        )
    except (ValueError, OSError) as error:
        print(f"act2see: {error}", file=sys.stderr)
        return 2
    print(trace)
    if options.html:
        page = f"<!doctype html><meta charset='utf-8'>{trace._repr_html_()}"
        options.html.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
