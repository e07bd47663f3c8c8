"""Every page of the book, by day, by night and on a phone."""

from __future__ import annotations

import pytest

from tests.book.conftest import HARD, LOOKS, PAGES, Window

pytestmark = pytest.mark.book
every_page = pytest.mark.parametrize("page", PAGES)
every_look = pytest.mark.parametrize("look", LOOKS)


@every_page
@every_look
def test_no_hard_barrier(visit, page, look):
    """axe-core finds no serious or critical violation, with everything unfolded."""
    barriers = [
        f"{one['id']} ({one['impact']}): {one['help']}\n"
        + "\n".join(f"    {node['html'][:160]}" for node in one["nodes"][:4])
        for one in visit(page, look).violations
        if one["impact"] in HARD
    ]
    assert not barriers, "\n".join(barriers)


@every_page
@every_look
def test_nothing_is_asked_of_another_host(visit, page, look):
    seen = visit(page, look)
    assert seen.foreign == []
    assert seen.failed == []
    assert seen.errors == []


@every_page
def test_a_phone_needs_no_sideways_scrolling(visit, page):
    seen = visit(page, "phone")
    assert seen.wider <= 0, f"{seen.wider} pixels too wide: {seen.wide}"


# The pale words of code come last, after many that look like each other and not like them.
WORDS = "<span>word</span> " * 50
BAD = f"""<!doctype html><html lang="en"><title>A page with barriers</title><body>
<p style="color:#ccc;background:#fff">too pale to read</p>
<pre style="color:#000;background:#fff">{WORDS}<span style="color:#ccc" id="pale">pale</span>
<b style="background:#555"><span id="dark">on a dark ground</span></b></pre>
<img src="https://elsewhere.example/picture.png" width="10" height="10">
<div style="width:900px">too wide for a phone</div></body></html>"""


def test_a_bad_page_would_be_seen(browser, tmp_path):
    """The three tests above can fail: a page with all three faults is told from a good one."""
    (tmp_path / "bad.html").write_text(BAD, encoding="utf-8")
    window = Window(browser, *LOOKS["phone"])
    window.go(f"file://{tmp_path}/bad.html")
    seen = window.look()
    window.page.close()
    assert {"color-contrast", "image-alt"} <= {one["id"] for one in seen.violations}
    pale = next(one for one in seen.violations if one["id"] == "color-contrast")
    told = " ".join(node["html"] for node in pale["nodes"])
    assert all(words in told for words in ("too pale to read", 'id="pale"', 'id="dark"'))
    assert seen.foreign == ["https://elsewhere.example/picture.png"]
    assert seen.wider > 500
