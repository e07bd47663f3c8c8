"""Every page of the book, by day, by night and on a phone."""

from __future__ import annotations

import pytest

from tests.book.conftest import HARD, LOOKS, PAGES, look_at

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


BAD = """<!doctype html><html lang="en"><title>A page with barriers</title><body>
<p style="color:#ccc;background:#fff">too pale to read</p>
<img src="https://elsewhere.example/picture.png" width="10" height="10">
<div style="width:900px">too wide for a phone</div></body></html>"""


def test_a_bad_page_would_be_seen(browser, tmp_path):
    """The three tests above can fail: a page with all three faults is told from a good one."""
    (tmp_path / "bad.html").write_text(BAD, encoding="utf-8")
    context = browser.new_context(viewport={"width": 375, "height": 800})
    seen = look_at(context, f"file://{tmp_path}/bad.html")
    context.close()
    assert {"color-contrast", "image-alt"} <= {one["id"] for one in seen.violations}
    assert seen.foreign == ["https://elsewhere.example/picture.png"]
    assert seen.wider > 500
