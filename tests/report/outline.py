"""Reading a report back: what a browser or a screen reader finds in it."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """The elements of a page; fails where one is not closed, or closed twice.

    Attributes:
        elements: tag, attributes, and the text directly inside.
        data: the value of each ``<data data-key=… value=…>``.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[tag for tag, *_ in self._open]}"
        self.data = {attributes["data-key"]: attributes["value"] for _, attributes, _ in self.all("data")}

    def all(self, tag: str) -> list[tuple[str, dict[str, str], list[str]]]:
        return [element for element in self.elements if element[0] == tag]

    @property
    def title(self) -> str:
        return "".join(self.all("title")[0][2])  # the first is the page's, the others are of pictures

    def text(self, tag: str, **attributes: str) -> str:
        found = [e for e in self.all(tag) if all(e[1].get(key) == value for key, value in attributes.items())]
        assert len(found) == 1, (tag, attributes, len(found))
        return "".join(found[0][2])

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self._open, f"closed but not open: {tag}"
        assert self._open[-1][0] == tag, f"{tag} closes {self._open[-1][0]} at {self.getpos()}"
        self._open.pop()

    def handle_data(self, data):
        if self._open:
            self._open[-1][2].append(data)


def check_scripts(outline: Outline) -> None:
    """Assert that the only script is the player's, that its policy allows no other, and that its data is JSON."""
    policy = next(attributes["content"] for _, attributes, _ in outline.all("meta") if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; ")
    scripts = {attributes.get("type", "script"): "".join(text) for _, attributes, text in outline.all("script")}
    assert len(scripts) == len(outline.all("script")) in (0, 2)
    if not scripts:
        assert "script-src" not in policy
        return
    digest = base64.b64encode(hashlib.sha256(scripts["script"].encode()).digest()).decode()
    assert policy.endswith(f"; script-src 'sha256-{digest}'")
    json.loads(scripts["application/json"])


def check_sound(html: str) -> Outline:
    """Assert that a page is well-formed, complete in itself, small, and tells its pictures in words."""
    outline = Outline(html)
    ids = outline.ids()
    assert len(ids) == len(set(ids)), sorted(i for i in ids if ids.count(i) > 1)
    assert len(html.encode()) < 400_000
    assert "http://" not in html
    assert "https://" not in html
    check_scripts(outline)
    assert not outline.all("img")
    for _, attributes, _ in outline.elements:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:"))
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids, attributes
        assert not any(key.startswith("on") for key in attributes)
    pictures = outline.all("svg")
    for _, attributes, _ in pictures:
        assert attributes["role"] == "img"
        for label in attributes["aria-labelledby"].split():
            assert any(a.get("id") == label and "".join(text).strip() for _, a, text in outline.elements), label
    assert len(outline.all("figure")) == len(outline.all("figcaption")) == len(pictures)
    return outline
