"""Tests of ``conformergen.reports.pages``."""

import pytest

from conformergen.errors import InputError
from conformergen.reports.pages import render_page, script_json


def test_text_inside_a_script_cannot_end_it():
    assert "</script" not in script_json(["</script><b>"])


def test_missing_renderer_is_named(monkeypatch):
    import builtins

    real = builtins.__import__

    def without_jinja(name, *arguments, **options):
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_jinja)
    with pytest.raises(InputError, match="report"):
        render_page("view.html.j2", needed_by="the viewer", title="x", data_html="[]")
