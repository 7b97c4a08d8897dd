"""Control groups of both versions, read from recorded trees of files."""

from __future__ import annotations

from pathlib import Path

from executor_runner.cgroup import memory_group

VERSION2 = {
    "memory.max": "536870912\n",
    "memory.current": "209715200\n",
    "memory.peak": "300000000\n",
    "memory.stat": "anon 104857600\nfile 104857600\nkernel 1048576\ninactive_file 62914560\nactive_file 41943040\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n",
}

VERSION1 = {
    "memory/memory.limit_in_bytes": "268435456\n",
    "memory/memory.usage_in_bytes": "200000000\n",
    "memory/memory.max_usage_in_bytes": "250000000\n",
    "memory/memory.stat": "cache 5\nrss 7\ninactive_file 1\ntotal_inactive_file 30000000\ntotal_active_file 20000000\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
}


def record(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_version_2(tmp_path: Path) -> None:
    """Limit, usage without page cache, peak and kills come from version 2's files."""
    group = memory_group(record(tmp_path, VERSION2))
    assert group is not None
    assert group.limit_bytes() == 512 << 20
    assert group.used_bytes(worth_a_look=0) == 100 << 20
    assert group.peak_bytes() == 300_000_000
    assert group.oom_kills() == 2


def test_version_1(tmp_path: Path) -> None:
    """The same of version 1, whose totals count the groups below."""
    group = memory_group(record(tmp_path, VERSION1))
    assert group is not None
    assert group.limit_bytes() == 256 << 20
    assert group.used_bytes(worth_a_look=0) == 150_000_000
    assert group.peak_bytes() == 250_000_000
    assert group.oom_kills() == 3


def test_the_cache_is_looked_at_only_near_the_limit(tmp_path: Path) -> None:
    """Far from the limit one small read is enough; the usage is then an upper bound."""
    group = memory_group(record(tmp_path, VERSION2))
    assert group is not None
    assert group.used_bytes(worth_a_look=300 << 20) == 200 << 20


def test_no_limit_is_no_group(tmp_path: Path) -> None:
    """Without a limit, in either version's words, there is no group to speak of."""
    assert memory_group(record(tmp_path / "v2", {**VERSION2, "memory.max": "max\n"})) is None
    unlimited = {**VERSION1, "memory/memory.limit_in_bytes": "9223372036854771712\n"}
    assert memory_group(record(tmp_path / "v1", unlimited)) is None
    assert memory_group(tmp_path / "nothing") is None


def test_older_kernels_lack_files(tmp_path: Path) -> None:
    """What a kernel does not tell counts as nothing: peak came with 5.19, oom_kill in version 1 with 4.13."""
    group = memory_group(record(tmp_path, {"memory.max": "1000\n", "memory.current": "900\n"}))
    assert group is not None
    assert (group.peak_bytes(), group.oom_kills(), group.used_bytes(0)) == (0, 0, 900)


def test_more_cache_than_usage_is_nothing(tmp_path: Path) -> None:
    """Figures that were read at two instants never make a negative usage."""
    stat = "inactive_file 900\nactive_file 900\n"
    group = memory_group(record(tmp_path, {"memory.max": "1000", "memory.current": "800", "memory.stat": stat}))
    assert group is not None
    assert group.used_bytes(0) == 0
