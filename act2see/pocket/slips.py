"""Slips of the pocket world's teacher: calls for a window of time that are refused for their form.

Works on windows. Does not know traces, or what follows a refusal. The forms are our choice: those
that the tools tell apart.
"""

import json

from act2see.trace import Step

# Of a window: tool and arguments, as JSON or cut off.
SLIPS = (
    'zoom_in {{"start_s": {start}, "end_s": {end}}}',
    '{tool} {{"start_s": {end}, "end_s": {start}}}',
    '{tool} {{"start_s": {start}, "end_s": {start}}}',
    '{tool} {{"start_s": {end}, "end_s": {end}}}',
    '{tool} {{"start_s": -{end}, "end_s": {end}}}',
    '{tool} {{"start_s": {start}}}',
    '{tool} {{"start_s": "noon", "end_s": {end}}}',
    '{tool} {{"start_s": {start}, ',
)


def slipped(slip: str, tool: str, start_s: float, end_s: float) -> Step:
    """The call for this window in one of the forms of `SLIPS`."""
    name, _, arguments = slip.format(tool=tool, start=start_s, end=end_s).partition(" ")
    try:
        return Step(kind="call", tool=name, arguments=json.loads(arguments))
    except ValueError:
        return Step(kind="call", text=f'{{"name": "{name}", "arguments": {arguments}')
