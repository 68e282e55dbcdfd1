"""The page of a cohort as a reader uses it: sorting, filtering, opening, scrolling, fading, rating."""

import csv
import shutil

import pytest
from cohorts import HOSTILE, made_up_rows, real_cohort, write_table

from FoundationRegistrationLib.cohort.page import write_page

MANY = 1500
ROWS = "#pairs tbody tr:not(.spacer)"


@pytest.fixture(scope="module")
def real(chromium, tmp_path_factory):
    """Three pairs, one of which failed."""
    folder = real_cohort(tmp_path_factory.mktemp("cohort") / "three & more")
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = write_table(tmp_path_factory.mktemp("cohort") / "many", made_up_rows(MANY), ["site"])
    write_page(folder)
    return folder


def names(page):
    return page.locator(f"{ROWS} td.name").all_inner_texts()


def column(page, label):
    """Texts of the cells below a header."""
    place = page.locator("#pairs thead th").all_inner_texts()
    at = next(index for index, text in enumerate(place) if text.split("\n")[0].strip() == label)
    return page.locator(f"{ROWS} td:nth-child({at + 1})").all_inner_texts()


def sort_by(page, label):
    page.locator("#pairs thead button", has_text=label).first.click()


def slices(page):
    """The inner part of the picture that is shown, without a frame that says where the focus is."""
    box = page.locator("#slices").bounding_box()
    inner = {"x": box["x"] + 20, "y": box["y"] + 20, "width": box["width"] - 40, "height": box["height"] - 40}
    return page.screenshot(clip=inner)


def open_pair(page, name):
    page.locator(f"{ROWS} td.name", has_text=name).click()
    page.locator("#position").filter(has_text="/").wait_for()
    page.locator("#stage.complete").wait_for()


def close_pair(page):
    page.keyboard.press("Escape")
    page.locator("#pair").wait_for(state="hidden")
    page.wait_for_function("!location.hash.includes('pair')")


def test_all_pairs_are_listed_and_their_names_are_text(open_page, real):
    page = open_page(real)
    assert names(page) == ["third", "first", HOSTILE]  # what needs a look comes first
    assert column(page, "Verdict")[0] == "error"
    assert page.title() == "three & more: registrations"
    assert page.locator("img[src=x]").count() == 0
    assert page.locator(".thumbnail").count() == 2
    assert page.evaluate("[...document.querySelectorAll('.thumbnail')].every((image) => image.naturalWidth > 0)")
    assert column(page, "Dice")[1].count("→") == 1
    assert column(page, "site") == ["=1+1", "A & B", "Zürich"]
    assert "not a medical device" in page.locator("footer").inner_text()


@pytest.mark.parametrize("label", ["Expected error", "TRE", "Time", "Folded"])
def test_sorting_puts_numbers_in_order_and_the_absent_last(open_page, many, label):
    page = open_page(many)
    for ascending in (False, True):
        sort_by(page, label)
        shown = column(page, label)
        values = [float(text.split("→")[-1].replace("<", "")) for text in shown]
        assert values == sorted(values, reverse=not ascending)
        head = page.locator("#pairs th[aria-sort]")
        assert head.count() == 1
        assert head.get_attribute("aria-sort") == ("ascending" if ascending else "descending")
    page.locator("#scroller").evaluate("(scroller) => scroller.scrollTo(0, scroller.scrollHeight)")
    page.locator(f"{ROWS}[aria-rowindex='{MANY + 1}']").wait_for()
    assert column(page, label)[-1] == ""


def test_names_are_sorted_as_people_count(open_page, tmp_path):
    rows = [{"name": name, "state": "waiting"} for name in ("pair 10", "pair 9", "Pair 1", "ärger")]
    folder = write_table(tmp_path / "cohort", rows)
    write_page(folder)
    page = open_page(folder, locale="en-GB")
    sort_by(page, "Pair")
    assert names(page) == ["ärger", "Pair 1", "pair 9", "pair 10"]
    sort_by(page, "Pair")
    assert names(page) == ["pair 10", "pair 9", "Pair 1", "ärger"]


def test_pairs_are_filtered_by_text_verdict_and_state(open_page, many):
    page, rows = open_page(many), made_up_rows(MANY)
    failed = sum(row.get("verdict") == "failed" for row in rows)
    errors = sum(row["state"] == "failed" for row in rows)
    page.locator("#statuses button", has_text="failed").click()
    assert page.locator("#shown").inner_text() == f"{failed} of {MANY} shown"
    assert set(column(page, "Verdict")) == {"failed"}
    page.locator("#statuses button", has_text="error").click()
    assert page.locator("#shown").inner_text() == f"{failed + errors} of {MANY} shown"
    page.locator("#text").fill("moving EMPTY")
    assert page.locator("#shown").inner_text() == f"{errors} of {MANY} shown"
    page.locator("#text").fill("nowhere at all")
    assert page.locator("#nothing").is_visible()
    page.locator("#text").fill("duke_0042")
    page.locator("#statuses button[aria-pressed=true]").first.click()
    page.locator("#statuses button[aria-pressed=true]").first.click()
    assert names(page) == ["DUKE_0042"]


def test_slices_scroll_and_fade(open_page, real):
    page = open_page(real)
    open_pair(page, "first")
    middle, place = slices(page), page.locator("#position").inner_text()
    page.keyboard.press("ArrowUp")
    assert page.locator("#position").inner_text() != place
    assert slices(page) != middle
    page.keyboard.press("ArrowDown")
    assert page.locator("#position").inner_text() == place
    page.locator("#stage").hover()
    page.mouse.wheel(0, 200)
    page.locator("#position").filter(has_not_text=place).wait_for()
    page.locator("#slice").fill("3")
    assert "4 / " in page.locator("#position").inner_text()
    page.locator("#slice").fill("15")
    page.locator("#fade").fill("0")
    fixed = slices(page)
    page.locator("#fade").fill("100")
    registered = slices(page)
    page.get_by_role("button", name="Before", exact=True).click()
    before = slices(page)
    assert len({fixed, registered, before}) == 3
    page.locator("#stage").focus()
    page.keyboard.press("b")
    assert slices(page) == registered
    page.keyboard.press(" ")
    assert page.locator("#fade").input_value() == "0"
    assert slices(page) == fixed


def test_an_opened_pair_says_what_is_known_of_it(open_page, real):
    page = open_page(real)
    open_pair(page, "first")
    assert page.locator("#pair-status").inner_text() == "good"
    assert "register" in page.locator("#command").inner_text()
    assert page.locator("#structures tbody tr").count() == 3
    assert page.locator("#overview img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 500
    page.locator("#settings summary").click()
    assert "mind" in page.locator("#settings").inner_text()
    page.locator("#previous").click()
    page.locator("#pair-name", has_text="third").wait_for()
    page.locator("#log", has_text="give another file.").wait_for()
    assert not page.locator("#viewer").is_visible()
    assert not page.locator("#overview").is_visible()
    assert page.locator("#previous").is_disabled()
    page.keyboard.press("n")
    page.keyboard.press("n")
    page.locator("#pair-name", has_text=HOSTILE).wait_for()
    close_pair(page)
    assert page.evaluate("document.activeElement.querySelector('td.name').innerText") == HOSTILE


def test_the_address_of_an_opened_pair_opens_it_again(open_page, real):
    page = open_page(real)
    open_pair(page, HOSTILE)
    again = open_page(real, page.url.partition("index.html")[2])
    again.locator("#position").filter(has_text="/").wait_for()
    assert again.locator("#pair-name").inner_text() == HOSTILE
    again.go_back()


def test_ratings_survive_a_reload_and_are_saved(open_page, real, tmp_path):
    page = open_page(real)
    open_pair(page, "first")
    page.locator("[data-rating=accept]").click()
    page.locator("#note").fill('good, but "left"\nbreast = ä')
    close_pair(page)
    open_pair(page, HOSTILE)
    page.keyboard.press("r")
    close_pair(page)
    page.reload()
    assert column(page, "Rating") == ["", "accept note", "redo"]
    assert page.locator("#rated").inner_text() == "2 rated"
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "ratings.csv"
    download.value.save_as(tmp_path / "ratings.csv")
    with (tmp_path / "ratings.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    expected = [["first", "accept", 'good, but "left"\nbreast = ä'], [HOSTILE, "redo", ""]]
    assert rows == [["name", "rating", "note"], *expected]
    page.locator("#rating").select_option("redo")
    assert names(page) == [HOSTILE]
    open_pair(page, HOSTILE)
    page.keyboard.press("r")  # once more takes it back
    close_pair(page)
    page.reload()
    assert column(page, "Rating") == ["", "accept note", ""]


def test_saved_ratings_in_the_folder_are_there_for_the_next_reader(open_page, real, tmp_path):
    folder = shutil.copytree(real, tmp_path / "another place")
    (folder / "ratings.csv").write_text("name,rating,note\nthird,redo,__proto__\n__proto__,accept,\n", "utf-8")
    write_page(folder)
    page = open_page(folder)
    assert column(page, "Rating") == ["redo note", "", ""]
    open_pair(page, "first")
    close_pair(page)


def test_many_pairs_are_few_rows_and_reached_by_keys(open_page, many):
    page = open_page(many)
    assert page.locator(ROWS).count() < 40
    page.locator(f"{ROWS}[tabindex='0']").focus()
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-rowindex')") == "32"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.getAttribute('aria-rowindex')") == str(MANY + 1)
    name = page.evaluate("document.activeElement.querySelector('td.name').innerText")
    page.keyboard.press("Enter")
    page.locator("#pair-name", has_text=name).wait_for()
    assert page.locator("#pair-place").inner_text() == f"{MANY} of {MANY}"
    close_pair(page)
    assert page.evaluate("document.activeElement.getAttribute('aria-rowindex')") == str(MANY + 1)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(ROWS).count() == MANY
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(ROWS).count() < 40


def test_outliers_open_their_pair(open_page, many):
    page, rows = open_page(many, color_scheme="dark"), made_up_rows(MANY)
    worst = max((row for row in rows if row["state"] == "done"), key=lambda row: row["expected_error_mm"])
    assert page.locator("#plots figure").count() == 7
    expected = page.locator("figure[aria-label='Expected error']")
    shown = expected.locator(".outlier.bad").evaluate_all(
        "(circles) => circles.map((c) => c.getAttribute('aria-label'))"
    )
    assert any(label.startswith(f"{worst['name']}: ") for label in shown)
    mark = expected.locator(f".outlier[aria-label^='{worst['name']}: ']")
    mark.click()
    page.locator("#pair-name", has_text=worst["name"]).wait_for()
    close_pair(page)
    mark.focus()
    assert worst["name"] in expected.locator(".said").inner_text()
    page.keyboard.press("Enter")
    page.locator("#pair-name", has_text=worst["name"]).wait_for()
    close_pair(page)
    page.locator("#text").fill("Boston")
    filtered = set(names(page))
    assert filtered and filtered <= {row["name"] for row in rows if row.get("site") == "Boston"}
