"""What a call finds and what comes back of it, with and without namespaces."""

from __future__ import annotations

import json
import os

import pytest
from support.machine import LIBC_SIGNALS

from executor_api import Executor
from executor_api.domain.outcome import Reason

ASYNC_CODE = """
import asyncio
async def later(x):
    await asyncio.sleep(0)
    return x + 1
"""


def test_a_function_gets_its_arguments_and_its_value_comes_back(executor: Executor) -> None:
    """Positional and keyword arguments go in as JSON, the return value comes out as JSON."""
    code = "def join(a, *, b): return {'joined': [a, b], 'text': 'é\\u2028'}"
    result = executor.run(code=code, function="join", args=[{"x": 1}], kwargs={"b": None})
    assert result.value == {"joined": [{"x": 1}, None], "text": "é\u2028"}


def test_a_coroutine_function_is_awaited(executor: Executor) -> None:
    """The value of an async function is what it returns, not a coroutine."""
    assert executor.run(code=ASYNC_CODE, function="later", args=[41]).value == 42


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def f(): return {1, 2}", "TypeError"),
        ("def f(): return float('nan')", "TypeError"),
        ("def g(): return 1", "NameError"),
        ("f = 3", "NameError"),
        ("def f(): return 'x' * (1 << 21)", "ValueError"),
    ],
)
def test_a_value_that_cannot_be_had_is_an_exception_of_the_call(executor: Executor, code: str, kind: str) -> None:
    """No JSON, too much of it, or no such function: the call fails, and says why."""
    result = executor.run(code=code, function="f")
    assert (result.reason, result.value) == (Reason.EXCEPTION, None)
    assert result.message.startswith(kind)
    assert kind in result.stderr


def test_files_go_in_and_artifacts_come_out(executor: Executor) -> None:
    """Files lie below the working directory; what matches the globs is brought back, bytes as they are."""
    command = "cat in/a.txt && mkdir -p out/deep && printf '\\377\\n' > out/deep/b.bin && cp in/a.txt out/"
    result = executor.run(command, files={"in/a.txt": "text é"}, artifacts=["out/**/*.bin", "out/*.txt"])
    assert result.stdout == "text é"
    assert result.output.artifacts == {"out/deep/b.bin": b"\xff\n", "out/a.txt": "text é".encode()}


def test_standard_input_reaches_the_child(executor: Executor) -> None:
    """Python and other programs read what was sent, then the end."""
    assert executor.run("cat", stdin="ä\n").stdout == "ä\n"
    assert executor.run(code="print(input(), input()); input()", stdin="1\n2\n").stdout == "1 2\n"


def test_each_call_has_a_fresh_working_directory_and_home(executor: Executor) -> None:
    """Working directory, HOME and TMPDIR are the call's own, writable and empty."""
    command = 'pwd; ls -A; ls -A "$HOME" "$TMPDIR" | wc -w; touch "$HOME/x" "$TMPDIR/x" x'
    first, second = executor.run(command), executor.run(command)
    assert first.succeeded
    assert first.stdout.splitlines()[0] != second.stdout.splitlines()[0]
    assert first.stdout.splitlines()[1:] == second.stdout.splitlines()[1:]


def test_other_languages_run_from_a_file(executor: Executor) -> None:
    """Bash comes with every template, another language with the one that declares it."""
    assert executor.run(code="a=(1 2 3); echo ${#a[@]}", language="bash").stdout == "3\n"
    assert executor.run(code="s/a/b/p", language="sed", stdin="aa\n", template="sed").stdout == "ba\n"


def test_the_child_sees_the_calls_environment_and_not_the_services(executor: Executor) -> None:
    """The call's variables arrive; of the service's own only those that say where programs and languages are."""
    result = executor.run(code="import os, json; print(json.dumps(dict(os.environ)))", env={"MINE": "x=y z"})
    seen = json.loads(result.stdout)
    known = {"MINE", "PATH", "HOME", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE"}
    assert seen["MINE"] == "x=y z"
    assert set(seen) <= known | {"PYTHONUNBUFFERED", "LANG", "LC_ALL", "LC_CTYPE"}
    assert "PYTEST_CURRENT_TEST" in os.environ


def test_exit_functions_run_and_threads_are_joined(executor: Executor) -> None:
    """What is no daemon may finish, then exit functions run, as when an interpreter ends."""
    code = """
import atexit, threading, time
atexit.register(print, "bye")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("main")
"""
    result = executor.run(code=code, timeout=20)
    assert (result.stdout, result.succeeded) == ("main\nthread\nbye\n", True)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works(executor: Executor, method: str) -> None:
    """A pool finds functions of the call's own code, by fork and by a fresh interpreter."""
    code = f"""
import multiprocessing
def square(x): return x * x
if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print(pool.map(square, range(4)))
"""
    assert executor.run(code=code, timeout=30).stdout == "[0, 1, 4, 9]\n"


def test_what_was_printed_before_a_kill_is_kept(executor: Executor) -> None:
    """Nothing a call has printed waits in a buffer that dies with it."""
    code = "import os, sys; print('out', end=''); print('err', end='', file=sys.stderr); os.kill(os.getpid(), 9)"
    result = executor.run(code=code)
    assert (result.stdout, result.stderr, result.signal) == ("out", "err", "SIGKILL")


def test_signals_have_their_defaults(executor: Executor) -> None:
    """Nothing blocked or ignored is inherited: a pipe that breaks ends its writer, Ctrl-C raises."""
    assert executor.run("yes | head -n1; echo ${PIPESTATUS[0]}").stdout.startswith("y\n")
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    assert executor.run(code=code).message == "exit code 130"
    status = executor.run("grep -E '^Sig(Blk|Ign)' /proc/self/status").stdout.split()
    assert [int(mask, 16) & ~LIBC_SIGNALS for mask in status[1::2]] == [0, 0]


def test_a_program_that_is_not_there(executor: Executor) -> None:
    """A shell would say it the same way."""
    result = executor.run(["no-such-program"])
    assert (result.exit_code, result.stderr) == (127, "no-such-program: not found\n")


def test_no_capability_is_left_to_the_child(executor: Executor) -> None:
    """Neither root's nor a user namespace's, and no program gives one back."""
    status = executor.run("grep -E '^(Cap|NoNew)' /proc/self/status").stdout.split()
    assert [int(value, 16) for value in status[1::2]] == [0, 0, 0, 0, 0, 1]


def test_output_is_told_as_it_comes(executor: Executor) -> None:
    """A listener hears of output while the call still runs."""
    heard: list[tuple[int, bytes]] = []
    result = executor.run("echo 1; echo 2 >&2", on_output=lambda stream, data: heard.append((stream, data)))
    assert sorted(heard) == [(1, b"1\n"), (2, b"2\n")]
    assert result.stdout == "1\n"
