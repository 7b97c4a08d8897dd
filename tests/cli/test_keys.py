"""`executor-api keys`: what it prints, and what stands in the file afterwards."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from executor_api.domain.api_key import expiry
from executor_api.http.auth.key_file import ApiKeys
from executor_api.service.yaml_model import schema_text

REPOSITORY = Path(__file__).parents[2]
KEY = re.compile(r"exk_([0-9a-f]{12})_([0-9a-f]{64})")
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def made(result: Any) -> tuple[str, str]:
    """Id and secret of the one key that was printed."""
    assert result.returncode == 0, result.stderr
    found = KEY.fullmatch(result.stdout.decode().strip())
    assert found is not None, result.stdout
    return found[1], found[2]


def stored(path: Path) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = yaml.safe_load(path.read_text())["keys"]
    return keys


def test_a_key_is_shown_once_and_kept_as_a_hash(shell: Any, path: Path) -> None:
    """Standard output has the key alone; the file has its hash, is its owner's alone, and holds what was asked for."""
    arguments = ("--tenant", "blue", "--label", "Ann", "--expires", "2w")
    key_id, secret = made(shell.run("keys", "create", *arguments, EXECUTOR_API_KEYS=str(path)))
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (key,) = stored(path)
    in_two_weeks = datetime.now(UTC) + timedelta(weeks=2)
    assert abs(datetime.fromisoformat(key.pop("expires")) - in_two_weeks) < timedelta(minutes=2)
    assert key == {
        "id": key_id,
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "tenant": "blue",
        "scopes": ["execute", "read"],
        "label": "Ann",
    }


def test_keys_are_added_listed_and_revoked(shell: Any, path: Path) -> None:
    """Others stay as they are; the list has no hash and says what has expired."""
    first, _ = made(shell.run("keys", "create", "--tenant", "blue", "--api-keys", str(path)))
    scopes = ("--scope", "read", "--scope", "admin")
    second, _ = made(shell.run("keys", "create", "--tenant", "ops", *scopes, "--api-keys", str(path)))
    path.write_text(path.read_text() + "  expires: 2020-01-01T00:00:00Z\n")
    listed = shell.run("keys", "list", "--api-keys", str(path)).stdout.decode().splitlines()
    assert [line.split() for line in listed] == [
        ["ID", "EXPIRES", "TENANT", "SCOPES", "LABEL"],
        [first, "never", "blue", "execute,read"],
        [second, "expired", "2020-01-01T00:00:00Z", "ops", "read,admin"],
    ]
    revoked = shell.run("keys", "revoke", first, "--api-keys", str(path))
    assert revoked.stderr.decode() == f"executor-api: revoked {first}; 1 left\n"
    assert [key["id"] for key in stored(path)] == [second]


def test_a_manifest_holds_the_file(shell: Any, path: Path) -> None:
    """A Secret with all keys goes to standard output for kubectl, and the new key to standard error; the file too."""
    first, _ = made(shell.run("keys", "create", "--tenant", "blue", "--api-keys", str(path)))
    result = shell.run("keys", "create", "--tenant", "red", "--secret-manifest", "--api-keys", str(path))
    manifest = yaml.safe_load(result.stdout)
    assert (manifest["kind"], manifest["metadata"]) == ("Secret", {"name": "executor-api-keys"})
    assert manifest["stringData"] == {"keys.yaml": path.read_text()}
    found = KEY.search(result.stderr.decode())
    assert found is not None
    assert [key["id"] for key in stored(path)] == [first, found[1]]
    assert found[2] not in result.stdout.decode()
    left = shell.run("keys", "revoke", first, "--secret-manifest", "--api-keys", str(path))
    assert yaml.safe_load(left.stdout)["stringData"] == {"keys.yaml": path.read_text()}


def test_a_manifest_needs_no_file(shell: Any, tmp_path: Path) -> None:
    """Who keeps keys in the cluster alone gets a Secret with the one key, and nothing is written."""
    result = shell.run("keys", "create", "--tenant", "blue", "--secret-manifest")
    (key,) = yaml.safe_load(yaml.safe_load(result.stdout)["stringData"]["keys.yaml"])["keys"]
    assert key["id"] in result.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_keys_made_at_once_are_all_there(shell: Any, path: Path) -> None:
    """Two who edit the file at the same time do not lose each other's key."""
    arguments = ("keys", "create", "--tenant", "blue", "--api-keys", str(path))
    processes = [shell.start(*arguments) for _ in range(4)]
    printed = []
    for process in processes:
        with process:
            printed.append(KEY.fullmatch(process.communicate()[0].decode().strip()))
    assert {found[1] for found in printed if found is not None} == {key["id"] for key in stored(path)}
    assert len(stored(path)) == 4


def test_who_edits_through_a_link_changes_the_file_behind_it(shell: Any, path: Path, tmp_path: Path) -> None:
    """The link stays one."""
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    made(shell.run("keys", "create", "--tenant", "blue", "--api-keys", str(link)))
    assert link.is_symlink()
    assert len(stored(path)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another user")
def test_what_root_changes_stays_its_owners(shell: Any, path: Path) -> None:
    """A service that runs as another user can read its keys after an administrator has revoked one."""
    key_id, _ = made(shell.run("keys", "create", "--tenant", "blue", "--api-keys", str(path)))
    os.chown(path, 65532, 65532)
    assert shell.run("keys", "revoke", key_id, "--api-keys", str(path)).returncode == 0
    assert (path.stat().st_uid, path.stat().st_gid, stored(path)) == (65532, 65532, [])


def test_a_file_that_all_can_read_is_spoken_of(shell: Any, path: Path) -> None:
    """`list` warns and says how to mend it; an edit closes the file."""
    key_id, _ = made(shell.run("keys", "create", "--tenant", "blue", "--api-keys", str(path)))
    path.chmod(0o644)
    assert "chmod 600" in shell.run("keys", "list", "--api-keys", str(path)).stderr.decode()
    result = shell.run("keys", "revoke", key_id, "--api-keys", str(path))
    assert "could be read by everybody" in result.stderr.decode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create",), "Missing option '--tenant'"),
        (("create", "--tenant", "blue", "--scope", "root"), "'root' is not one of 'execute', 'read', 'admin'"),
        (("create", "--tenant", " blue"), "executor-api: --tenant must be 1 to 128 letters"),
        (("create", "--tenant", "blue", "--label", "x" * 201), "executor-api: --label must have at most 200"),
        (("create", "--tenant", "blue", "--expires", "soon"), "executor-api: --expires: 'soon' must be a span"),
        (("create", "--tenant", "blue", "--expires", "2020-01-01"), "executor-api: --expires: '2020-01-01' is over"),
        (("revoke", "nobody"), "has no key nobody; it has: "),
    ],
)
def test_what_can_not_be_is_refused(shell: Any, path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """Exit code 2, a sentence that names the option, and the file as it was."""
    made(shell.run("keys", "create", "--tenant", "blue", "--api-keys", str(path)))
    before = path.read_text()
    result = shell.run("keys", *arguments, "--api-keys", str(path))
    assert (result.returncode, result.stdout) == (2, b"")
    assert sentence in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()
    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]


def test_without_a_file_there_is_a_way_out(shell: Any, tmp_path: Path) -> None:
    """The sentence names the flag, or the file that can't be written."""
    nowhere = shell.run("keys", "create", "--tenant", "blue")
    assert (nowhere.returncode, "--api-keys FILE (EXECUTOR_API_KEYS)" in nowhere.stderr.decode()) == (2, True)
    absent = tmp_path / "absent" / "keys.yaml"
    result = shell.run("keys", "create", "--tenant", "blue", "--api-keys", str(absent))
    assert result.returncode == 2
    assert f"executor-api: {absent} can't be written: No such file or directory" in result.stderr.decode()


def test_a_file_with_a_mistake_is_not_edited(shell: Any, path: Path) -> None:
    """What somebody wrote by hand is not thrown away; the place of the mistake is told."""
    path.write_text("keys:\n- id: A\n  tenant: blue\n")
    result = shell.run("keys", "create", "--tenant", "blue", "--api-keys", str(path))
    assert result.returncode == 2
    assert result.stderr.decode().splitlines() == [
        f"executor-api: {path}:2:3: keys[0].sha256: is missing",
        f"executor-api: {path}:2:7: keys[0].id: must be 1 to 40 lowercase letters and digits",
    ]
    assert path.read_text() == "keys:\n- id: A\n  tenant: blue\n"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", "2026-05-01T12:00:00+00:00"),
        ("12h", "2026-02-01T00:00:00+00:00"),
        ("2w", "2026-02-14T12:00:00+00:00"),
        ("2026-12-24", "2026-12-24T00:00:00+00:00"),
        ("2026-12-24T18:00:00+02:00", "2026-12-24T16:00:00+00:00"),
    ],
)
def test_when_a_key_ends(text: str, moment: str) -> None:
    """Spans count from now, dates begin in UTC, and times are what they say."""
    assert expiry(text, NOW).isoformat() == moment


@pytest.mark.parametrize("text", ["", "d", "-1d", "1y", "99999w999", "2026-13-01", "2026-12-24T18:00:00", "2026-01-31"])
def test_what_is_no_end(text: str) -> None:
    """A time without its zone, nonsense, and what is over, are refused."""
    with pytest.raises(ValueError, match=r"must be a span|is over"):
        expiry(text, NOW)


def test_the_committed_schema_is_the_one_in_force(shell: Any) -> None:
    """docs/api-keys.schema.json is what `executor-api keys schema` prints."""
    committed = (REPOSITORY / "docs" / "api-keys.schema.json").read_text()
    assert committed == schema_text(ApiKeys) == shell.run("keys", "schema").stdout.decode()
