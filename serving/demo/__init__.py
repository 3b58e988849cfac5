"""`tiltyard demo`: the whole of Tiltyard on real components, told as it happens.

`models` are the four versions, `traffic` the users, `story` the acts, `promises` what must hold;
`stage` starts and ends the system that they play on, and `play` puts all of it together.
"""

import asyncio
import json
import shutil
import sys

from rich.console import Console

from serving.demo.narrator import Narrator
from serving.demo.play import INTERRUPTED, told
from serving.demo.promises import Seen
from serving.demo.stage import make_state_dir


def main(*, as_json: bool = False) -> int:
    """Tell the story; the last line on stdout is what was seen, as one JSON object.

    Args:
        as_json: Tell it on stderr, so that there is nothing else on stdout.

    Returns:
        An exit status: 0 if everything held that the story promises.
    """
    seen = Seen()
    state_dir = make_state_dir()
    with Narrator(Console(stderr=as_json, highlight=False)) as narrator:
        status = asyncio.run(told(state_dir, seen, narrator))
        if status in (0, INTERRUPTED):
            shutil.rmtree(state_dir, ignore_errors=True)
            narrator.say("Everything that was started has ended, and its files are gone.")
        else:
            narrator.say(f"Everything that was started has ended. Its logs are in {state_dir}.")
    sys.stdout.write(json.dumps(seen.as_dict()) + "\n")
    return status
