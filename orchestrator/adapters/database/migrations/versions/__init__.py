"""Migrations, run by `orchestrator.adapters.database.upgrade`."""
