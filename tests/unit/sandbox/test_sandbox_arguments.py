"""bubblewrap's arguments."""

import pytest

from builder.sandbox.arguments import Bind, Box, Link, Overlay, Scratch, bubblewrap_arguments, encoded


def test_mounts_keep_their_order_and_the_root_is_closed_last() -> None:
    box = Box(mounts=[Bind("/usr", "/usr"), Link("usr/bin", "/bin"), Scratch("/tmp", 10, "1777"), Overlay("/a", "/b")])
    arguments = bubblewrap_arguments(box)
    text = " ".join(arguments)
    assert "--ro-bind /usr /usr --symlink usr/bin /bin --size 10 --perms 1777 --tmpfs /tmp" in text
    assert text.index("--tmpfs") < text.index("--overlay-src /a --tmp-overlay /b")
    assert arguments[-4:] == ["--remount-ro", "/dev", "--remount-ro", "/"]


def test_a_box_shares_nothing_unless_asked() -> None:
    arguments = bubblewrap_arguments(Box(mounts=[]))
    assert {"--unshare-all", "--disable-userns", "--clearenv", "--new-session", "--as-pid-1"} <= set(arguments)
    assert "--share-net" not in arguments
    assert "--die-with-parent" not in arguments
    assert "--share-net" in bubblewrap_arguments(Box(mounts=[], share_network=True))


def test_a_folder_is_read_only_unless_asked() -> None:
    assert "--bind" not in bubblewrap_arguments(Box(mounts=[Bind("/a", "/b")]))
    assert "--bind" in bubblewrap_arguments(Box(mounts=[Bind("/a", "/b", writable=True)]))


@pytest.mark.parametrize("variables", [{"": "x"}, {"A=B": "x"}, {"A\0B": "x"}, {"A": "x\0--bind\0/\0/"}])
def test_no_variable_can_become_an_argument(variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        bubblewrap_arguments(Box(mounts=[], environment=variables))


def test_values_are_passed_whole() -> None:
    box = Box(mounts=[], environment={"A": "--bind / /\nline\udcff ü"})
    parts = encoded(bubblewrap_arguments(box)).split(b"\0")
    at = parts.index(b"--setenv")
    assert parts[at + 2] == b"--bind / /\nline\xff \xc3\xbc"
