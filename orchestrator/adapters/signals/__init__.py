"""Hints between processes, by Redis publish/subscribe."""
