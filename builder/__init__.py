"""Builds: fetch, detect, plan, install, snapshot, report. Knows nothing of the orchestrator."""
