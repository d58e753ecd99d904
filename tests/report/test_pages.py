"""Pages: what is put into a template is escaped, pictures are inside."""

from __future__ import annotations

import base64

import pytest

from feature_alignment.report.pages import data_uri, render


def test_what_is_put_in_is_escaped_and_the_page_has_one_title(tmp_path):
    (tmp_path / "page.j2").write_text('{% extends "base.html.j2" %}{% block body %}{{ words }}{% endblock %}')
    page = render("page.j2", tmp_path, title="a & b", words="<script>")
    assert page.startswith("<!doctype html>")
    assert "<title>a &amp; b</title>" in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_a_value_that_is_missing_is_an_error(tmp_path):
    (tmp_path / "page.j2").write_text("{{ words }}")
    with pytest.raises(Exception, match="'words' is undefined"):
        render("page.j2", tmp_path)


def test_the_address_of_a_picture_holds_it():
    head, _, tail = data_uri(b"\0picture").partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(tail) == b"\0picture"
