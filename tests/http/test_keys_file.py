"""The file of keys beside the service as a process: how it starts, and what it makes of a file that changes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.service import Service

from executor_api.domain.api_key import ApiKey, hash_of, key_text
from executor_api.domain.finding import Finding
from executor_api.entrance import examine
from executor_api.errors import ConfigurationError
from executor_api.http.auth import api_keys
from executor_api.http.auth.key_file import read_keys, render
from executor_api.settings import Settings

SECRET = "0123456789abcdef" * 4


def content(*ids: str) -> str:
    """A file with a key of each id, all with the same secret."""
    return render([ApiKey(id=key_id, sha256=hash_of(SECRET), tenant="blue") for key_id in ids])


def status(service: Service, key_id: str) -> int:
    headers = {"Authorization": f"Bearer {key_text(key_id, SECRET)}"}
    return service.client.get("/executions", headers=headers).status_code


def notes(service: Service) -> list[str]:
    found: list[str] = service.client.get("/readyz").json()["notes"]
    return [note for note in found if "--api-keys" in note]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must become true soon; fail if it does not."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, " can't be read: No such file or directory"),
        ("", ": the file must be a mapping of field names to values"),
        ("keys:\n- {id: a, tenant: blue}\n", ":2:3: keys[0].sha256: is missing"),
        (content("a").replace("tenant: blue", "tenant: ''"), ":5:11: keys[0].tenant: must be 1 to 128 letters"),
        (content("a").replace("execute", "run"), ":6:12: keys[0].scopes[0]: must be 'execute', 'read' or 'admin'"),
        (content("a").replace("[execute, read]", "[]"), ":6:11: keys[0].scopes: must have at least 1 item"),
        (content("a") + "  expires: tomorrow\n", ":7:12: keys[0].expires: must be a time with its zone, like 20"),
        (content("a") + "  expires: 2027-01-31T00:00:00\n", ":7:12: keys[0].expires: must be a time with its zone"),
        (content("a") + "  expires: 2027-13-31T00:00:00Z\n", ":7:12: keys[0].expires: must be a time with its zone"),
        (content("a") + "  expire: x\n", ":7:3: keys[0].expire: unknown field; did you mean 'expires'?"),
        (content("a", "a"), ":7:7: keys[1].id: 'a' is also the id of keys[0]; each needs its own"),
    ],
)
def test_a_mistake_is_placed_and_explained(tmp_path: Path, text: str | None, sentence: str) -> None:
    """A file is right as a whole, or the refusal names line, field and what would do."""
    path = tmp_path / "keys.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        read_keys(path)
    assert str(raised.value).startswith(f"{path}{sentence}")


def test_a_service_does_not_start_with_keys_it_can_not_read(tmp_path: Path) -> None:
    """It says in one sentence what is wrong, and lets nobody in: neither all nor some."""
    path = tmp_path / "keys.yaml"
    path.write_text(content("a").replace("execute", "run"))
    command = [sys.executable, "-m", "executor_api", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    found = subprocess.run([*command, "--api-keys", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].startswith(f"executor-api: {path}:6:12: keys[0].scopes[0]: must be 'execute'")
    assert "Traceback" not in found.stderr


async def test_the_doctor_looks_at_the_keys(tmp_path: Path) -> None:
    """It counts them and those that have expired, or says what the service would."""
    path, found = tmp_path / "keys.yaml", list[Finding]()
    path.write_text(content("a", "b") + "  expires: 2020-01-01T00:00:00Z\n")
    await examine(Settings(api_keys=str(path)), {}, found.append)
    path.write_text("keys: {}\n")
    await examine(Settings(api_keys=str(path)), {}, found.append)
    good, bad = found
    assert good.text == f"2 in {path}, of which 1 expired"
    assert (bad.verdict, bad.text) == ("fail", f"{path}:1:7: keys: must be a list")


def test_a_mistake_leaves_the_last_good_keys(tmp_path: Path) -> None:
    """The log names file, line and field; /readyz says so without them; once mended, the file counts again."""
    path = tmp_path / "keys.yaml"
    path.write_text(content("a"))
    with Service(tmp_path / "data", "--api-keys", str(path)) as service:
        assert (status(service, "a"), notes(service)) == (200, [])
        path.write_text(content("b").replace("sha256", "sha265"))
        until(lambda: notes(service) != [])
        assert (status(service, "a"), status(service, "b")) == (200, 401)
        service.wait_log("API keys not reloaded, those in use stay")
        service.wait_log(f"{path}:4:3: keys[0].sha265: unknown field; did you mean 'sha256'?")
        (note,) = notes(service)
        assert "its last good keys stay" in note
        assert "sha265" not in note
        path.write_text(content("b"))
        until(lambda: status(service, "b") == 200)
        assert (status(service, "a"), notes(service)) == (401, [])


async def test_a_file_that_is_away_for_a_moment_leaves_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who replaces it in two steps locks nobody out in between."""
    monkeypatch.setattr(api_keys, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(api_keys, "GONE_SECONDS", 3600.0)
    path = tmp_path / "keys.yaml"
    path.write_text(content("a"))
    keys = api_keys.FileKeys(path)
    path.unlink()
    for _ in range(3):
        assert any("its last good keys stay" in note for note in await keys.notes())
    path.write_text(content("a"))
    assert await keys.notes() == []


def test_a_file_that_is_deleted_takes_its_keys_along(tmp_path: Path) -> None:
    """Soon none opens, the log and /readyz say why, and another file in its place counts."""
    path = tmp_path / "keys.yaml"
    path.write_text(content("a"))
    with Service(tmp_path / "data", "--api-keys", str(path)) as service:
        path.unlink()
        until(lambda: status(service, "a") == 401)
        assert notes(service) == ["the file of API keys (--api-keys) can't be used, and no key opens; the log says why"]
        service.wait_log(f"{path} can't be read: No such file or directory")
        service.wait_log("API keys are gone with their file")
        path.write_text(content("b"))
        until(lambda: status(service, "b") == 200)
        assert (status(service, "a"), notes(service)) == (401, [])


def test_a_mounted_secret_is_followed(tmp_path: Path) -> None:
    """As the kubelet does it: the file is a link into a folder that is a link, which is swapped for the next one."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(revision: str, *ids: str) -> None:
        (mount / revision).mkdir()
        (mount / revision / "keys.yaml").write_text(content(*ids))
        (mount / "..data_tmp").symlink_to(revision)
        (mount / "..data_tmp").rename(mount / "..data")

    publish("..1", "a")
    (mount / "keys.yaml").symlink_to("..data/keys.yaml")
    with Service(tmp_path / "data", "--api-keys", str(mount / "keys.yaml")) as service:
        assert (status(service, "a"), status(service, "b")) == (200, 401)
        publish("..2", "b")
        shutil.rmtree(mount / "..1")
        until(lambda: status(service, "a") == 401)
        assert (status(service, "b"), notes(service)) == (200, [])


def test_sighup_reads_the_keys_without_a_request(tmp_path: Path) -> None:
    """Who has told the service sees in its log that the new keys count."""
    path = tmp_path / "keys.yaml"
    path.write_text(content("a"))
    with Service(tmp_path / "data", "--api-keys", str(path)) as service:
        path.write_text(content("a", "b"))
        service.process.send_signal(signal.SIGHUP)
        service.wait_log("API keys reloaded")
        assert status(service, "b") == 200
