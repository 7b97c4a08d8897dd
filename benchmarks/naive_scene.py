"""The incident itself: made by naive agents, counted, alerted, and cleaned up by what triage says."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from cast import Agent, Play
from witnesses import FIGURES, Count

ALERT_SECONDS = 480.0
"""The slowest alert takes five minutes of D state."""
_STEPS = 10
_TYPED = re.compile(
    r"executor-api triage --(restart-parent|kill) \d+|executor-api triage --nudge|p?kill -KILL .*|pgrep -a .*"
)
"""What advice may be here. Where it is for what looks after a process, as a container engine, that takes no part."""


def play_naive(play: Play) -> None:
    """All of it, until the machine is as before."""
    with play.agent("naive") as naive, play.agent("worker") as worker:
        _make(play, naive, worker)
        _hold_against_each_other(play)
        if play.alarms is not None:
            _wait_for_alerts(play)
        _triage(play, naive)
        _nudge(play, naive, worker)
        _follow_advice(play)
        with contextlib.suppress(BrokenPipeError):
            worker.end()
        play.check_as_before("triage")


def _make(play: Play, naive: Agent, worker: Agent) -> None:
    play.begin("made", f"naive agents make calls, 1:{play.scale:g}")
    endings = [naive.make_calls(), worker.make_calls()]
    made = play.load.made()
    made |= {name: made[name] + play.before[name] for name in FIGURES}
    found = play.seen.count_until(lambda count: all(count[name] == made[name] for name in made))
    found = {name: found[name] for name in made}
    play.check("psutil counts what was made", holds=found == made, but=(made, found))
    print(f"  the agents say {endings}")
    play.columns["made"] = made


def _hold_against_each_other(play: Play) -> None:
    play.begin("counted", "the monitor, and psutil before and after its look")
    before, look, after = play.seen.count(), play.seen.look_anew(), play.seen.count()
    for count in (before, after):
        count["descriptors"], holder = count["most_descriptors"]
    monitor: Count = {name: int(look[name]) for name in FIGURES}
    monitor["descriptors"] = int(look.get(f"agent_process_open_descriptors/{holder}", 0))
    for name, value in monitor.items():
        low, high = sorted((before[name], after[name]))
        words = f"{name}: the monitor's {value:,} is what psutil counts"
        play.check(words, holds=low <= value <= high, but=(low, high))
    prefix = "agent_zombie_processes_by_parent/"
    parents = {name.removeprefix(prefix): int(value) for name, value in look.items() if name.startswith(prefix)}
    counted = after["zombies_by_parent"]
    play.check(f"zombies by parent: {parents}", holds=parents == counted, but=counted)
    play.columns |= {"monitor": monitor, "psutil": after}


def _wait_for_alerts(play: Play) -> None:
    assert play.alarms is not None  # noqa: S101 - asked before
    play.begin("alerted", "Prometheus, with the chart's alerts as they are")
    wanted = play.expected_alerts()
    play.alarms.wait_for(lambda names: wanted <= names, ALERT_SECONDS, play.seen.scrape)
    firing = play.alarms.firing()
    for alert in firing:
        print(f"  {alert.name}: {alert.summary}")
    missing = wanted - {alert.name for alert in firing}
    play.check(f"these fire: {', '.join(sorted(wanted))}", holds=not missing, but=missing)
    about = {alert.about for alert in firing if alert.name == "AgentProcessDescriptorsAlmostOut"}
    play.check("the one about descriptors names the agent", holds=about == {"naive-agent"}, but=about)


def _triage(play: Play, naive: Agent) -> None:
    play.begin("triage", "executor-api triage")
    print(play.machine.run("executor-api", "triage").stdout, end="")
    told = _ask_triage(play)
    findings, culprit = told["findings"], told["main_culprit"] or {}
    first = findings[0]
    play.check("the first finding names the naive agent", holds=_pid(first["culprit"]) == naive.pid, but=first)
    of_zombies = next(finding for finding in findings if finding["kind"] == "zombies")
    holds = _pid(of_zombies["culprit"]) == naive.pid and "does not wait for its children" in of_zombies["who"]
    play.check("the first one about zombies is its, with the cause", holds=holds, but=of_zombies)
    play.check("more than one thing leads to it", holds=_pid(culprit) == naive.pid, but=culprit)
    play.columns["psutil"]["close_wait"] = play.seen.count()["close_wait"]


def _nudge(play: Play, naive: Agent, worker: Agent) -> None:
    play.begin("nudge", "executor-api triage --nudge")
    if not play.seen.count()["zombies_by_parent"].get("agent-worker"):
        print("  somebody else on this host has nudged the worker: it makes its calls again")
        worker.make_calls()
    cured = play.seen.count()["zombies_by_parent"].get("agent-worker", 0)
    said = json.loads(play.machine.run("executor-api", "triage", "--nudge", "--json").stdout)["actions"]
    print("\n".join(f"  {line}" for line in said))
    kept = len(play.load.jobs)
    for words in (
        f"pid {worker.pid}: {cured:,} of {cured:,} zombies collected",
        f"pid {naive.pid}: 0 of {kept:,} zombies collected; {kept:,} stay until it ends (SIGCHLD does nothing to it): ",
    ):
        play.check(f"it says: {words}", holds=any(line.startswith(words) for line in said), but=said)
    after = play.columns["nudge"] = play.seen.count()
    after["descriptors"] = after["most_descriptors"][0]
    left = after["zombies"] - play.before["zombies"]
    play.check(f"psutil counts {kept:,} zombies", holds=left == kept, but=left)


def _follow_advice(play: Play) -> None:
    """Type what triage says first, until it has nothing more to say."""
    play.begin("triage", "what executor-api triage says first, typed")
    for _ in range(_STEPS):
        finding = next((found for found in _ask_triage(play)["findings"] if _is_ours(play, found)), None)
        if finding is None:
            break
        print(f"  {finding['severity'].upper()}  {finding['what']}\n     who  {finding['who']}")
        command = finding["do"].partition("  #")[0].partition("; room until then")[0]
        if not _TYPED.fullmatch(command) and finding["culprit"]:
            command = f"executor-api triage --restart-parent {finding['culprit']['pid']}"
        _type(play, command)
    play.check("then it has nothing more to say", holds=finding is None, but=finding)


def _type(play: Play, command: str) -> None:
    ours = command.startswith("executor-api")
    print(f"       $  {command}{' --yes' if ours else ''}")
    said = play.machine.run("sh", "-c", f"{command} --yes --json" if ours else command).stdout
    if ours:
        print("\n".join(f"          {line}" for line in json.loads(said)["actions"]))
    elif command.startswith("pgrep "):  # a look first; here all that it shows may end
        found = [line.split()[0] for line in said.splitlines()]
        print(f"       $  kill -KILL {' '.join(found[:3])} ...  # {len(found):,} PIDs")
        play.machine.run("sh", "-c", f"kill -KILL {' '.join(found)}")


def _is_ours(play: Play, finding: dict[str, Any]) -> bool:
    """Limits of the whole host are not this machine's, and what is in use is no trouble by that alone."""
    if finding["kind"] == "limit":
        return play.machine.limited is not None and play.machine.limited.name in finding["what"]
    return finding["severity"] != "notice" or finding["kind"] in {"zombies", "stuck", "orphans"}


def _pid(identity: dict[str, Any] | None) -> int:
    return int((identity or {}).get("pid", 0))


def _ask_triage(play: Play) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(play.machine.run("executor-api", "triage", "--json").stdout)
    return told
