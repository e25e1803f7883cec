"""Dormouse's control plane: API, controller, gateway agent, runner and the `dormouse` command."""

__version__ = "0.1.0"
