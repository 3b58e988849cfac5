"""`tiltyard demo`: the whole of Tiltyard on real components, told as it happens."""

import asyncio
import json
import shutil
import sys

from rich.console import Console

from registry.errors import TiltyardError
from serving.client import ControlClient
from serving.demo.models import halves
from serving.demo.narrator import Narrator
from serving.demo.outcomes import Outcomes
from serving.demo.promises import BrokenPromise, Seen, broken
from serving.demo.scoreboard import Scoreboard
from serving.demo.stage import interruptible, make_state_dir, own_settings, system
from serving.demo.story import Story
from serving.demo.traffic import Traffic

LIMIT = 240.0
"""Seconds that the whole story may take, from the first process to the last receipt."""

INTERRUPTED = 130

