from __future__ import annotations

from rich.text import Text

from deeptaxi.api.rich_repr import WIDTH, RichRepr


class Result(RichRepr):
    def __rich__(self) -> Text:
        return Text("a <b> [red]c[/red]   \nsecond line", style="bold")


def test_a_result_is_printed_without_color_and_without_spaces_at_the_ends() -> None:
    assert str(Result()) == "a <b> [red]c[/red]\nsecond line"


def test_a_notebook_shows_it_as_html_with_its_signs_escaped() -> None:
    html = Result()._repr_html_()
    assert html.startswith("<pre ")
    assert "a &lt;b&gt; [red]c[/red]" in html
    assert "\x1b" not in html


def test_a_line_is_as_long_as_a_page_allows() -> None:
    class Long(RichRepr):
        def __rich__(self) -> Text:
            return Text("word " * 50)

    assert max(map(len, str(Long()).splitlines())) <= WIDTH
