"""What a child finds when it starts, and what it may do to its own interpreter without the report becoming untrue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.machine import LIBC_SIGNALS
from support.pod import Journal, Pod, a_call, encoded, pod, python, shell

from executor_runner.protocol.frames import FrameKind

_DESCRIPTORS = "import os; print(sorted(int(name) for name in os.listdir('/proc/self/fd'))[:-1])"


def _value(journal: Journal) -> object:
    return json.loads(journal.report["value_json"])


def test_a_command_has_three_descriptors(sandbox: Pod) -> None:
    """A program finds stdin, stdout and stderr and nothing of the runner's."""
    journal = sandbox.run(shell("exec ls /proc/self/fd"))
    assert journal.stdout.split() == [b"0", b"1", b"2", b"3"]  # the last is the listing's own


def test_python_has_its_result_besides(sandbox: Pod) -> None:
    """Python code finds one descriptor more, which its own programs do not."""
    code = _DESCRIPTORS + "; import subprocess; subprocess.run(['ls', '/proc/self/fd'], close_fds=False)"
    journal = sandbox.run(python(code))
    assert journal.stdout == b"[0, 1, 2, 3]\n0\n1\n2\n3\n"


def test_a_child_leads_a_session_of_its_own_with_ordinary_signals(sandbox: Pod) -> None:
    """Nothing is blocked or ignored in a child, it leads its session, and it can make no core files."""
    code = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ulimit -Hc; ps -o sid= -p $$ | tr -d ' '; echo $$"
    *masks, core, session, pid = sandbox.run(shell(code)).stdout.decode().splitlines()
    assert [int(line.split()[1], 16) & ~LIBC_SIGNALS for line in masks] == [0, 0]
    assert core == "0"
    assert session == pid


def test_a_child_is_the_first_to_go_when_memory_is_short(sandbox: Pod) -> None:
    """The kernel takes it before its runner, or before anything else of this user."""
    assert sandbox.run(shell("cat /proc/self/oom_score_adj")).stdout == b"1000\n"


def test_a_child_gets_its_environment_and_none_of_ours(sandbox: Pod) -> None:
    """A child has its folders and its own variables; the runner's settings stay with the runner."""
    journal = sandbox.run(shell("env; pwd", env={"GIVEN": "a b", "LANG": "C"}))
    *lines, folder = journal.stdout.decode().splitlines()
    environ = dict(line.partition("=")[::2] for line in lines)
    assert (environ["GIVEN"], environ["LANG"]) == ("a b", "C")
    assert (environ["HOME"], environ["TMPDIR"]) == (str(sandbox.root / "home"), str(sandbox.root / "tmp"))
    assert folder == str(sandbox.root / "work")
    assert not [name for name in environ if name.startswith("EXECUTOR_")]


def test_stdin_files_and_artifacts(sandbox: Pod) -> None:
    """Input goes in byte by byte as given, and files come back the same way."""
    everything = bytes(range(256))
    call = shell("cat > out/copy; cat in/file >> out/copy", stdin=encoded(everything))
    call["files"] = {"in/file": encoded(everything[::-1]), "out/.keep": ""}
    journal = sandbox.run({**call, "artifacts": ["out/*", "missing"]})
    found = dict(_artifact(frame.payload) for frame in journal.frames if frame.kind is FrameKind.ARTIFACT)
    assert found == {"out/.keep": b"", "out/copy": everything + everything[::-1]}
    assert "artifacts_skipped" not in journal.report


def _artifact(payload: bytes) -> tuple[str, bytes]:
    length = int.from_bytes(payload[:2])
    return payload[2 : 2 + length].decode(), payload[2 + length :]


def test_hostile_names_of_artifacts_end_nothing(sandbox: Pod) -> None:
    """Names that are no text, links in a circle and pipes are skipped by name, and the report comes."""
    code = (
        "import os; open(b'\\xff.txt', 'w'); os.symlink('.', 'a'); os.symlink('.', 'b'); os.mkfifo('pipe');"
        " os.symlink('/etc/passwd', 'out'); open('good', 'w').write('x')"
    )
    journal = sandbox.run(python(code, artifacts=["**", "**/*.txt"]))
    found = [_artifact(frame.payload) for frame in journal.frames if frame.kind is FrameKind.ARTIFACT]
    assert found == [("good", b"x")]
    assert journal.report["artifacts_skipped"] == [
        "out: leads out of the working directory",
        "pipe: not a regular file",
        "\\udcff.txt: its name is not UTF-8",
    ]


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 128, 137, 255])
def test_exit_codes_are_the_childs(sandbox: Pod, code: int) -> None:
    """A program's exit code is reported as it is, also where a shell would mean a signal by it."""
    report = sandbox.run(shell(f"exit {code}")).report
    assert (report["exit_code"], report["signal"], report["cause"]) == (code, None, None)


@pytest.mark.parametrize("number", [2, 6, 9, 11, 13, 15])
def test_signals_are_the_childs(sandbox: Pod, number: int) -> None:
    """A program that dies of a signal is reported with that signal and no exit code."""
    report = sandbox.run(shell(f"kill -{number} $$")).report
    assert (report["exit_code"], report["signal"], report["cause"]) == (None, number, None)


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["no-such-program"], 127, b"no-such-program: not found\n"),
        (["/etc"], 126, b"/etc: Permission denied\n"),
        (["\ud800"], 126, None),
        (["a\0b"], 126, None),
    ],
)
def test_what_cannot_be_executed_says_why(sandbox: Pod, argv: list[str], code: int, said: bytes | None) -> None:
    """A program that cannot be started ends as a shell would have it, with a sentence on stderr."""
    journal = sandbox.run(a_call(argv=argv))
    assert journal.report["exit_code"] == code
    assert journal.stderr
    assert said is None or journal.stderr == said


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("import sys; sys.exit()", 0, b""),
        ("import sys; sys.exit(256 + 3)", 3, b""),
        ("import sys; sys.exit('text')", 1, b"text\n"),
        ("import sys; sys.stderr.close(); sys.exit('text')", 1, b""),
        ("import sys; sys.stderr = None; sys.exit('text')", 1, b""),
        ("import os; os._exit(5)", 5, b""),
        ("import threading, os; threading.Thread(target=os._exit, args=(6,)).start()", 6, b""),
        ("import threading, sys; threading.Thread(target=sys.exit, args=(6,)).start()", 0, b""),
        ("import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", 0, b""),
        ("import os; os.closerange(0, 64)", 0, b""),
        ("import sys, io; sys.stdout = io.StringIO(); print('lost')", 0, b""),
        ("import sys; sys.stdout.close(); sys.stdout = None", 0, b""),
        ("import sys; del sys.stdout, sys.stderr, sys.excepthook; 1 / 0", 1, None),
        ("import sys; sys.stdout = object()", 120, None),
        ("import sys; sys.excepthook = 7; 1 / 0", 1, None),
        ("import sys; sys.excepthook = lambda *_: sys.exit(9); 1 / 0", 1, None),
        ("class E(Exception):\n def __str__(self): raise SystemExit(9)\nraise E", 1, None),
        ("class C:\n def __str__(self): raise ValueError\nimport sys; sys.exit(C())", 1, b""),
        ("import atexit, os; atexit.register(os._exit, 8)", 8, b""),
        ("import atexit; atexit.register(int, 'x')", 0, None),
        ("def f(): f()\nf()", 1, None),
        ("raise BaseException", 1, None),
        ("exec('1 /')", 1, None),
    ],
)
def test_python_ends_as_an_interpreter_would(sandbox: Pod, code: str, exit_code: int, stderr: bytes | None) -> None:
    """Whatever the code does to its interpreter, the exit code is the one Python gives."""
    journal = sandbox.run(python("print('before', flush=True)\n" + code))
    assert journal.report["exit_code"] == exit_code
    assert journal.stdout == b"before\n"
    assert stderr is None or journal.stderr == stderr


def test_source_that_is_no_python_is_an_exception(sandbox: Pod) -> None:
    """Code that does not compile fails with Python's own words, and nothing of it has run."""
    journal = sandbox.run(python("print(1)\n1 /"))
    assert (journal.stdout, journal.report["exit_code"]) == (b"", 1)
    assert journal.report["exception"]["type"] == "SyntaxError"
    assert b"main.py" in journal.stderr


def test_a_folder_that_is_gone_is_a_fault_of_the_setup(sandbox: Pod) -> None:
    """A child that cannot enter its working directory has not run, and no exit code says that it has."""
    sandbox.root.joinpath("work").rmdir()
    journal = sandbox.run(shell("echo ran"))
    assert journal.report["cause"] == "setup_failed"
    assert FrameKind.STARTED not in journal.kinds


def test_exception_is_told_even_if_the_hook_fails(sandbox: Pod) -> None:
    """A broken excepthook hides neither the traceback nor what is known of the exception."""
    journal = sandbox.run(python("import sys\nsys.excepthook = None\nraise KeyError('k\\ud800')"))
    assert journal.report["exception"]["type"] == "KeyError"
    assert journal.stderr.endswith(b"KeyError: 'k\\ud800'\n")
    assert b"executor_runner" not in journal.stderr


@pytest.mark.parametrize(
    "body",
    [
        "import os\n if os.fork() == 0: sys.exit(3)\n os.wait()",
        "import os\n if os.fork() == 0: os._exit(3)\n os.wait()",
        "import os\n if os.fork() == 0: return 'the child'\n os.wait()",
        "import os\n if os.fork() == 0: raise ValueError('the child')\n os.wait()",
        "import multiprocessing\n with multiprocessing.Pool(2) as pool: pool.map(abs, [1])",
        "import multiprocessing\n process = multiprocessing.Process(target=exit)\n process.start(); process.join()",
        "import subprocess\n subprocess.run(['true'])",
        "import concurrent.futures as c\n with c.ProcessPoolExecutor(1) as pool: pool.submit(abs, 1).result()",
    ],
)
def test_only_the_call_itself_tells_its_value(sandbox: Pod, body: str) -> None:
    """A process that the function forks ends as it likes: the value is the function's own."""
    journal = sandbox.run(python(f"import sys\ndef f():\n {body}\n return 'the call'", "f"))
    assert _value(journal) == "the call"
    assert (journal.report["exit_code"], "exception" in journal.report) == (0, False)


def test_multiprocessing_can_spawn(sandbox: Pod) -> None:
    """A spawned process finds the call's source as its main module."""
    code = (
        "import multiprocessing\ndef work(n): return n + 1\nif __name__ == '__main__':\n"
        " with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(work, [1, 2]))"
    )
    journal = sandbox.run(python(code))
    assert (journal.stdout, journal.stderr) == (b"[2, 3]\n", b"")


def test_a_file_that_took_the_results_number_is_left_alone(sandbox: Pod) -> None:
    """Code that closes every descriptor and opens a file of its own keeps that file as it wrote it."""
    code = "import os\nos.close(3)\nfile = open('mine', 'w')\nprint(file.fileno())\nfile.write('whole')\nfile.flush()"
    journal = sandbox.run(python(code, artifacts=["mine"]))
    assert journal.stdout == b"3\n"
    assert [frame.payload for frame in journal.frames if frame.kind is FrameKind.ARTIFACT] == [b"\0\x04minewhole"]


@pytest.mark.parametrize(
    "forged",
    [
        b'{"value": "NaN"}',
        b'{"value": "{"}',
        b'{"value": 1}',
        b'{"value": "1"}{"value": "2"}',
        b'{"exception": {"type": "E"}}',
        b'{"exception": {"type": 1, "message": "", "traceback": ""}}',
        b"[]",
        b"S",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"value": "' + b"[" * 60_000 + b"]" * 60_000 + b'"}',
        b"9" * 10_000,
    ],
)
def test_a_forged_result_is_no_value(sandbox: Pod, forged: bytes) -> None:
    """What the code writes to the result itself is believed only if it has the right shape."""
    call = python("import os, sys\nos.write(3, sys.stdin.buffer.read())\nos._exit(4)", stdin=encoded(forged))
    report = sandbox.run(call).report
    assert report["exit_code"] == 4
    assert "value_json" not in report
    assert "exception" not in report


def test_an_endless_result_holds_up_nothing(sandbox: Pod) -> None:
    """Code that writes to the result for ever meets its timeout, and its output is kept."""
    code = "import os\nprint('before')\nwhile True: os.write(3, bytes(65536))"
    journal = sandbox.run(python(code, timeout_seconds=0.5, grace_seconds=0.1))
    assert journal.stdout == b"before\n"
    assert "value_json" not in journal.report


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("return float('nan')", "TypeError"),
        ("return object()", "TypeError"),
        ("return 'x' * 100_000", "ValueError"),
        ("x = []\n for _ in range(100_000): x = [x]\n return x", "RecursionError"),
        ("x = []\n x.append(x)\n return x", "TypeError"),
    ],
)
def test_a_value_that_is_no_json_is_an_exception(sandbox: Pod, body: str, kind: str) -> None:
    """A function whose return cannot be brought back fails, and says why."""
    report = sandbox.run(python(f"def f():\n {body}", "f")).report
    assert (report["exit_code"], report["exception"]["type"]) == (1, kind)
    assert "value_json" not in report


@pytest.mark.parametrize("value", [None, "\ud800", "é\0\U0001f600", 2**100, [1.5, {"a": []}], "x" * 60_000])
def test_values_come_back_as_they_are(sandbox: Pod, value: object) -> None:
    """A function's value is its JSON, whatever is in it."""
    call = python("def f(x): return x", "f")
    call["python"]["args"] = [value]
    assert _value(sandbox.run(call)) == value


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('broken')",
        "raise SystemExit(3)",
        "1 /",
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        "print('out| forged', flush=True); print('held back'); import sys; print('err| forged', file=sys.stderr)",
        "import os; os.closerange(200, 300)",
        "kept = [open('/dev/null') for _ in range(150)]",
    ],
)
def test_a_preloaded_module_may_misbehave(tmp_path: Path, body: str) -> None:
    """A module that fails, prints, starts threads or keeps files at import leaves the sandbox in order."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "preloaded.py").write_text(body)
    with pod(tmp_path / "pod", PYTHONPATH=str(modules), EXECUTOR_PRELOAD="no_such_module,preloaded,json") as sandbox:
        journal = sandbox.run(python(_DESCRIPTORS))
        assert (journal.stdout, journal.stderr) == (b"[0, 1, 2, 3]\n", b"")
        assert sandbox.leave() == 0
        assert b"forged" not in sandbox.log.read_bytes()
