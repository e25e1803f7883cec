"""Says in plain words what separates Spaces from each other and from Dormouse on this machine. Pure."""

from dataclasses import dataclass

from builder.sandbox.probe import Probe
from orchestrator.ports.runtime import Isolation

WITHOUT = "Set DORMOUSE_SANDBOX=none to run apps without isolation; do that for code you trust only."


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found at the start of the runner."""

    sandbox: str
    """The setting: auto, bubblewrap or none."""
    egress: str
    root: bool
    probe: Probe
    view_problem: str
    """Why root has no mount namespace of its own; '' where it has or needs none."""
    groups_version: int
    """1 or 2; 0 where no cgroups can be made."""
    groups_problem: str


def describe(found: Findings) -> Isolation:
    """The features, each `on` or why it is off and what that means."""
    if found.sandbox == "none":
        off = "off by DORMOUSE_SANDBOX=none: every app can read and change all that Dormouse can"
        return Isolation(name="process", level="none", features={"sandbox": off})
    if not found.probe.works:
        return Isolation(
            name="process", level="none",
            features={"sandbox": f"not available, so no app is started. {found.probe.problem} {WITHOUT}"},
        )  # fmt: skip
    features = {
        "sandbox": "on", "processes": "on", "files": "on", "network": _network(found), "egress": _egress(found),
        "system_calls": _system_calls(found), "working_folder": _working_folder(found), "user": _user(found),
        "memory": _memory(found), "process_limit": "on",
    }  # fmt: skip
    reduced = any(features[name] != "on" for name in ("network", "system_calls", "memory"))
    return Isolation(name="process", level="reduced" if reduced else "full", features=features)


def _network(found: Findings) -> str:
    if found.egress != "host":
        return "on"
    return "off by DORMOUSE_EGRESS=host: apps share this machine's network and reach its local services"


def _egress(found: Findings) -> str:
    return {
        "proxy": "on",
        "none": "on: apps reach nothing outside (DORMOUSE_EGRESS=none)",
    }.get(found.egress, "off by DORMOUSE_EGRESS=host: nothing filters what apps reach")


def _system_calls(found: Findings) -> str:
    if found.probe.system_calls:
        return "on"
    return "off: there is no filter for this processor, so apps reach more of the kernel"


def _working_folder(found: Findings) -> str:
    if found.probe.overlay:
        return "on"
    return "read-only: this kernel has no overlay for it, so apps can write to their home folder and /tmp only"


def _user(found: Findings) -> str:
    if not found.root:
        return "shared: every app has your user id outside of its namespace; started as root each gets one of its own"
    return "on" if not found.view_problem else f"on, without a view of its own: {found.view_problem}"


def _memory(found: Findings) -> str:
    if found.groups_version:
        return "on"
    why = found.groups_problem
    return (
        f"reduced: by a watchdog that looks each second, since {why}. A sudden jump passes the limit for a moment, and "
        "memory that no process has mapped is not counted (memfd, System V shared memory, files sent over sockets), so "
        "a hostile app or source build can take more than its limit"
    )
