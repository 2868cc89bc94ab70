"""Report, comparison and study as a visitor meets them, without a server."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

NAMES = ("report", "comparison", "study")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_sound(visit, pages, name, size, scheme):
    tab = visit(pages[name], size, scheme)
    tab.sound()
    for fold in tab.page.locator("details.fold > summary").all():
        if fold.is_visible():
            fold.click()
    tab.sound()


def test_long_parts_fold_on_a_phone_and_open_by_key(visit, pages):
    page = visit(pages["report"], "phone").page
    short = page.evaluate("document.documentElement.scrollHeight")
    figures = page.locator("#in-figures")
    assert not figures.is_visible()
    summary = page.get_by_text("Show 4 figures")
    summary.focus()
    page.keyboard.press("Enter")
    assert figures.is_visible()
    assert page.evaluate("document.documentElement.scrollHeight") > short + 1000


def test_a_link_leads_into_a_folded_part(visit, pages):
    page = visit(pages["report"], "phone").page
    page.get_by_role("navigation").get_by_text("Provenance").click()
    assert page.get_by_text("Measure it again").is_visible()


def test_nothing_folds_where_there_is_room(visit, pages):
    page = visit(pages["report"], "desk").page
    assert page.locator("#in-figures").is_visible()
    summary = page.get_by_text("Show 4 figures")
    assert summary.count() == 1 and not summary.is_visible()


def test_everything_is_on_paper(visit, pages):
    page = visit(pages["report"], "phone").page
    page.emulate_media(media="print")
    for part in ("#in-figures", "#in-examples", "#in-programs", "#in-reading"):
        assert page.locator(part).is_visible()
    assert not page.get_by_text("Download SVG").first.is_visible()


@pytest.mark.parametrize(
    ("name", "text", "file", "start"),
    [
        ("report", "Download CSV", "results.csv", "group,measurement,undefended %"),
        ("report", "Download SVG", "radius-linf-square.svg", "<svg xmlns="),
        ("comparison", "Download CSV", "comparison.csv", "group,measurement,A %"),
        ("study", "Download SVG", "voted.svg", "<svg xmlns="),
    ],
)
def test_figures_and_tables_are_saved_without_a_network(visit, pages, name, text, file, start):
    page = visit(pages[name]).page
    page.context.set_offline(True)
    with page.expect_download() as waiting:
        page.get_by_text(text, exact=True).first.click()
    saved = waiting.value
    assert saved.suggested_filename == file
    content = Path(saved.path()).read_bytes().decode("utf-8")
    assert content.startswith(start)
    link = page.locator(f'a[download="{file}"]').get_attribute("href")
    assert base64.b64decode(link.partition("base64,")[2]).decode() == content


def test_a_table_wider_than_the_screen_shows_it_and_scrolls_by_key(visit, pages):
    page = visit(pages["comparison"], "phone").page
    table = page.get_by_role("region", name="Each measurement in each run")
    over = "e => e.scrollWidth - e.clientWidth"
    assert table.evaluate(over) > 50
    assert "linear-gradient" in table.evaluate("e => getComputedStyle(e).backgroundImage")
    table.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("e => e.scrollLeft > 0", arg=table.element_handle())


def test_every_picture_has_words(visit, pages):
    page = visit(pages["report"]).page
    cards = page.locator(".card[role=img]")
    assert cards.count() == 4
    assert all(len(card.get_attribute("aria-label")) > 20 for card in cards.all())
    assert all(image.get_attribute("alt") for image in page.locator("img").all())
