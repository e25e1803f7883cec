"""Git repositories of Spaces, kept by real git."""

from orchestrator.adapters.git.repositories import GitRepositories

__all__ = ["GitRepositories"]
