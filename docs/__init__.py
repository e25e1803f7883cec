"""Generators of the pages of this folder that are made from code; `make docs` runs them all."""
