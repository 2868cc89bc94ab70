"""The studio as a visitor uses it."""

from __future__ import annotations

import re
import shutil
from urllib.parse import urlencode

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright").expect

ROOMS = {
    "runs": "",
    "run": "run?run=programs",
    "look": "look?images=0-2&attack=pgd&eps=0.2",
    "repair": "repair",
    "compare": "compare?run=one&run=two",
    "choose": "compare",
    "nothing": "look?eps=x",
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_sound(visit, address, room, size, scheme):
    visit(address + ROOMS[room], size, scheme).sound()


def test_the_radius_moves_and_the_attack_follows(visit, address):
    page = visit(f"{address}look?images=0-1&attack=fgsm&eps=0").page
    looked = page.locator("#looked")
    expect(looked).to_contain_text("ε=0,")
    slider = page.get_by_label("Radius as a slider")
    slider.focus()
    page.keyboard.press("End")
    expect(page.get_by_label("Radius ε", exact=True)).to_have_value("0.5")
    expect(looked).to_contain_text("ε=0.5", timeout=20_000)
    assert "eps=0.5" in page.url
    page.get_by_label("Attack", exact=True).select_option("none")
    expect(looked).to_contain_text("No attack.", timeout=20_000)
    expect(looked.locator("img")).to_have_count(2)


def test_norms_that_an_attack_does_not_know_cannot_be_chosen(visit, address):
    page = visit(f"{address}look?images=0&attack=pgd").page
    page.get_by_label("Attack", exact=True).select_option("sparse-rs")
    norm = page.get_by_label("Norm")
    expect(norm).to_have_value("l0")
    assert norm.locator("option:disabled").count() == 3


def test_a_mistake_is_said_and_mended(visit, address):
    page = visit(f"{address}look?images=0&attack=fgsm&eps=0.1").page
    page.get_by_label("Radius ε", exact=True).fill("many")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("alert")).to_contain_text("'many'")
    page.get_by_label("Radius ε", exact=True).fill("8/255")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#looked")).to_contain_text("ε=0.03137")


def test_two_runs_are_chosen_and_compared(visit, address):
    page = visit(address).page
    button = page.get_by_role("button", name="Compare the chosen runs")
    expect(button).to_be_disabled()
    page.get_by_label("Compare one", exact=True).check()
    expect(button).to_be_disabled()
    page.get_by_label("Compare two", exact=True).check()
    button.click()
    expect(page.get_by_role("heading", name=re.compile("May the figures"))).to_be_visible()
    expect(page.locator("main")).to_contain_text("only A")


def test_a_report_opens_and_its_figures_can_be_saved(visit, address):
    page = visit(address).page
    page.get_by_label("Report of one", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("programs")
    with page.expect_download() as waiting:
        page.get_by_text("Download CSV", exact=True).first.click()
    assert waiting.value.suggested_filename == "results.csv"


def test_a_repair_is_started_and_watched(visit, address, studio):
    query = urlencode({"model": str(studio.shelf.folder / "cnn"), "data": "digits"})
    page = visit(f"{address}repair?{query}").page
    page.get_by_label("Method").select_option("dare")
    expect(page.get_by_label("Minutes at most")).to_be_disabled()
    page.get_by_label("Method").select_option("pgd-training")
    page.get_by_label("Minutes at most").fill("2")
    page.get_by_label("Name of the run").fill("from-the-browser")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("from-the-browser")
    # The studio of these tests starts nothing: the page follows it to its end.
    expect(page.locator("[data-status]")).to_have_text("failed", timeout=30_000)


def test_the_keyboard_reaches_the_content_and_every_control(visit, address):
    page = visit(f"{address}look?images=0&attack=none").page
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    seen = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
    assert {"model", "data", "images", "attack", "norm", "eps", "side", "draw", "knows"} <= seen


def test_without_scripts_everything_still_works(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}look?images=0&attack=fgsm&eps=0.1")
    page.get_by_label("Radius ε", exact=True).fill("0.3")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#looked")).to_contain_text("ε=0.3")
    context.close()


def test_a_tab_without_the_token_sees_nothing(browser, address):
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(address.rsplit("/", 2)[0] + "/")
    assert answer.status == 403 and "token" in page.content()
    context.close()


def test_a_page_from_elsewhere_runs_nothing(visit, address, runs):
    """A study's page is served as it lies in its folder, in a sandbox."""
    folder = runs / "from-elsewhere"
    folder.mkdir()
    try:
        (folder / "run.json").write_text(
            '{"schema": 1, "kind": "bench", "title": "x", "status": "finished"}', encoding="utf-8"
        )
        (folder / "rows.jsonl").write_text("", encoding="utf-8")
        evil = "<title>quiet</title><h1>A study</h1><script>document.title = 'ran'</script>"
        evil += "<img src=x onerror=\"document.title = 'ran'\">"
        (folder / "report.html").write_text(evil, encoding="utf-8")
        page = visit(f"{address}report?run=from-elsewhere").page
        expect(page.get_by_role("heading", level=1)).to_have_text("A study")
        page.wait_for_timeout(300)
        assert page.title() == "quiet"
    finally:
        shutil.rmtree(folder)
