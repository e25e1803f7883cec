"""Templates ask for exactly what their view models hold, and hold no style or script of their own."""

from dataclasses import fields
from typing import Any

import pytest
from jinja2 import nodes

from orchestrator.web.ui import view_models, view_models_admin
from orchestrator.web.ui.rendering import HERE, environment

MODELS = {
    "store.html": view_models.StorePage,
    "login.html": view_models.LoginPage,
    "new.html": view_models.NewPage,
    "app.html": view_models.AppPage,
    "status.html": view_models.StatusFragment,
    "logs.html": view_models.LogsPage,
    "builds.html": view_models.BuildsPage,
    "build.html": view_models.BuildPage,
    "tree.html": view_models.TreePage,
    "blob.html": view_models.BlobPage,
    "settings.html": view_models.SettingsPage,
    "tokens.html": view_models_admin.TokensPage,
    "admin.html": view_models_admin.AdminPage,
    "error.html": view_models.ErrorPage,
}
PARTS = {"base.html", "space.html", "build_state.html", "_parts.html"}


def asked_for(template: str) -> set[str]:
    """Names that a template, what it extends and what it includes ask of `page`."""
    source = (HERE / "templates" / template).read_text()
    tree = environment.parse(source)
    names = {
        node.attr
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name == "page"
    }
    for other in tree.find_all((nodes.Extends, nodes.Include)):
        names |= asked_for(_constant(other))
    return names


def _constant(node: Any) -> str:
    name: str = node.template.value
    return name


def test_every_template_has_its_model() -> None:
    assert {path.name for path in (HERE / "templates").iterdir()} == set(MODELS) | PARTS


@pytest.mark.parametrize("template", MODELS)
def test_template_uses_its_model_wholly(template: str) -> None:
    assert asked_for(template) == {field.name for field in fields(MODELS[template])}


@pytest.mark.parametrize("path", sorted((HERE / "templates").iterdir()), ids=lambda path: path.name)
def test_templates_mark_nothing_as_safe(path: Any) -> None:
    text = path.read_text()
    for forbidden in ("|safe", "| safe", "autoescape", "style=", "<style", "javascript:", "http://", "https://"):
        assert forbidden not in text


def test_own_files_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (HERE / "static").iterdir()}
    assert set(sizes) == {"dormouse.css", "dormouse.js", "logo.svg"}
    assert sum(sizes.values()) < 45_000
