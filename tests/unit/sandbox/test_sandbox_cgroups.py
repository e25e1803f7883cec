"""Finding and using control groups, on made-up trees."""

from pathlib import Path

from builder.sandbox.cgroups import Cgroups, parse_mounts

V1 = """\
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""


def test_hierarchies_are_found() -> None:
    mounts = parse_mounts(V1)
    assert mounts.controllers == {"memory": Path("/sys/fs/cgroup/memory"), "pids": Path("/sys/fs/cgroup/pids")}
    assert mounts.unified == Path("/sys/fs/cgroup/unified")


def test_limits_of_the_first_layout(tmp_path: Path) -> None:
    roots = {name: tmp_path / name for name in ("memory", "pids")}
    for root in roots.values():
        root.mkdir()
    groups = Cgroups(roots, 1)
    join = groups.create("a", memory_bytes=1000, processes=50)
    assert join == (tmp_path / "memory/a/cgroup.procs", tmp_path / "pids/a/cgroup.procs")
    assert (tmp_path / "memory/a/memory.limit_in_bytes").read_text() == "1000"
    assert int((tmp_path / "pids/a/pids.max").read_text()) > 50
    (tmp_path / "memory/a/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert not groups.out_of_memory("a")
    (tmp_path / "memory/a/memory.oom_control").write_text("under_oom 0\noom_kill 2\n")
    assert groups.out_of_memory("a")
    assert groups.names() == {"a"}


def test_limits_of_the_second_layout(tmp_path: Path) -> None:
    groups = Cgroups({"unified": tmp_path}, 2)
    assert groups.create("a", memory_bytes=1000, processes=50) == (tmp_path / "a/cgroup.procs",)
    assert (tmp_path / "a/memory.max").read_text() == "1000"
    assert (tmp_path / "a/memory.oom.group").read_text() == "1"
    (tmp_path / "a/memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert groups.out_of_memory("a")
    assert not groups.out_of_memory("b")


def test_removing_gives_up_quietly(tmp_path: Path) -> None:
    groups = Cgroups({"unified": tmp_path}, 2)
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy/file").write_text("")
    groups.remove("busy", wait_s=0.01)
    groups.remove("unknown")
    (tmp_path / "empty").mkdir()
    groups.remove("empty")
    assert groups.names() == {"busy"}
