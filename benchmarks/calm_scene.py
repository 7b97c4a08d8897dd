"""The calls of the incident through executor-api, watched all the time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from agents import THREADS
from cast import Agent, Play
from witnesses import FIGURES, Count

CALM_SECONDS = 90.0
"""An alert goes on until the monitor and Prometheus have looked again."""
LONG_SECONDS = 10.0
"""Nothing of a call lives so long; a process that ends is a zombie for a moment, whoever collects it."""
_PAUSE_SECONDS = 1.0
_LEFT = ("processes", "zombies", "d_state", "orphans", "descriptors", "close_wait")


class Lasting:
    """For how long the same processes were zombies or in D state, from count to count."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self.longest: dict[str, float] = {"zombie": 0.0, "disk-sleep": 0.0}

    def update(self, now: float, names: Iterable[str]) -> None:
        """``names`` begin with the state."""
        self._since = {name: self._since.get(name, now) for name in names}
        for name, since in self._since.items():
            state = name.partition(" ")[0]
            self.longest[state] = max(self.longest[state], now - since)


def play_calm(play: Play) -> None:
    """All of it, until the machine is as before."""
    play.begin("executor-api", f"the same calls through Executor.local(), {THREADS} threads")
    if play.alarms is not None:
        names = play.alarms.wait_for(lambda names: not names & play.expected_alerts(), CALM_SECONDS, play.seen.scrape)
        calm = not names & play.expected_alerts()
        play.check("the alerts have ended", holds=calm, but=names)
    with play.agent("isolated") as agent:
        idle = _at_rest(play)
        _watch(play, agent)
        after = play.columns["after"] = _at_rest(play)
        more = {name: (idle[name], after[name]) for name in _LEFT if after[name] > idle[name]}
        play.check("at rest there is nothing more than before: no zombie, no D state", holds=not more, but=more)
        agent.end()
    play.begin("ended", "and when that agent has ended")
    play.check_as_before("ended")


def _watch(play: Play, agent: Agent) -> None:
    lasting, fired = Lasting(), set[str]()
    most: Count = dict.fromkeys(FIGURES, 0)
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        endings = pool.submit(agent.make_calls)
        while not endings.done():
            look = play.seen.scrape()
            most = {name: max(most[name], int(look[name])) for name in FIGURES}
            lasting.update(time.monotonic(), play.seen.count()["lasting"])
            if play.alarms is not None:
                fired |= {alert.name for alert in play.alarms.firing()} & play.expected_alerts()
            time.sleep(_PAUSE_SECONDS)
        seconds = time.monotonic() - began
    print(f"  {sum(endings.result().values()):,} calls in {seconds:.0f} s: {endings.result()}")
    wrong = [ending for ending in endings.result() if ending.startswith("wrong")]
    play.check("each is answered rightly", holds=not wrong, but=wrong)
    for state, name in (("zombie", "a zombie"), ("disk-sleep", "in D state")):
        longest = lasting.longest[state]
        words = f"no process is {name} for {LONG_SECONDS:g} s; the longest, from count to count: {longest:.1f} s"
        play.check(words, holds=longest < LONG_SECONDS, but=longest)
    if play.alarms is not None:
        play.check("none of the alerts fires", holds=not fired, but=fired)
    play.columns["most"] = most


def _at_rest(play: Play) -> Count:
    """Its figures once three counts in a row are the same."""
    counts: list[Count] = []

    def is_at_rest(count: Count) -> bool:
        counts.append({name: count[name] for name in _LEFT})
        return len(counts) > 2 and counts[-3] == counts[-2] == counts[-1]

    found: Count = play.seen.count_until(is_at_rest)
    return found
