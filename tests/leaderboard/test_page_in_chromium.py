"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import csv
import io
import json
import shutil
import statistics
from pathlib import Path

import pytest

from pdebench_fm.leaderboard import add, build
from pdebench_fm.leaderboard.audit import Rules
from pdebench_fm.leaderboard.solvers import write_solvers
from tests.support.records import append, make_record, make_solver, make_suite, make_trial

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs chromium: apt-get install chromium", allow_module_level=True)

COST = {"flops": 3_744_352, "peak_memory": 4 * 10**8, "inference_seconds": 2.5e-4, "inference_batch": 64}
COST["inference_device"] = "cpu (x86_64), threads: 1"
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
CELL = "#view=cell&id=smoke/v1/smoke/best/SYS-1(5,10)/fine-tune/16"
PLOTS = [f"#view=plots&plot={name}" for name in ("errors", "shift", "cost", "size", "wins")]
MODELS = ["#view=model&id=best", "#view=model&id=none", "#view=cell&id=none"]
PLOTS += [f"#view=plots&plot=cost&by={cost}" for cost in ("flops", "inference_seconds")]
CARD = """
model: best
authors: [Ada Lovelace, <b>Emmy</b>]
code: {licence: MIT}
weights: {licence: CC-BY-4.0, url: "https://example.org/weights"}
paper: {doi: 10.1000/182}
parameters: 67281
training_data: [{name: Poisson data, tasks: ["SYS-1(5,10)"]}]
hardware: {device: 1 GPU, hours: 2.5}
load: pdefm run SUITE --model best
"""
HOSTILE = "<img src=x onerror=console.log(1)>"
VIEWS = ["#view=ranking", "#view=cells", "#view=solvers", "#view=about", *MODELS, *PLOTS, CELL]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Three models, one of them incomplete; another suite with an odd name of a model; a search that is open."""
    folder = tmp_path_factory.mktemp("page")
    records = [
        *make_suite("best", 0.5, seeds=2, **COST),
        *make_suite("worse", 1.0, seeds=2),
        *make_suite("lacking", 0.8)[:-1],
    ]
    records += make_suite("odd,width=8", 2.0, suite="other", parameters=2_000_000)
    records += make_suite("odd,width=8", 2.0, suite="other", suite_version=2)
    records.append(make_record("plain", HOSTILE, "scratch", suite="hostile"))
    records.append(make_record(suite="searched", trials=(make_trial(1e-3, 0.1), make_trial(1e-2, 0.2))))
    append(folder / "run" / "records.jsonl", records)
    again = [
        *make_suite("best", 0.51, seeds=2, threads=9)[1:],
        make_record("best", "SYS-1(5,10)", error=0.9, threads=10, pretrain_job_id=records[0].job_id),
    ]
    append(folder / "again" / "records.jsonl", again[:-1])
    append(folder / "far" / "records.jsonl", again[-1:])
    (folder / "best.yaml").write_text(CARD, encoding="utf-8")
    add(folder / "board", [folder / "run", folder / "again", folder / "far"], cards=[folder / "best.yaml"])
    solvers = [("fd", 0.05), ("spectral-2", 1e-3), ("spectral", 0.0)]
    tasks = {record.task for record in records if record.suite == "smoke" and record.kind == "point"}
    write_solvers(folder / "board", [make_solver(name, error, task) for name, error in solvers for task in tasks])
    build(folder / "board", Rules(lambda *_: {r.cell for r in make_suite(seeds=2) if r.kind == "point"}))
    return folder / "board"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(board, browser):
    """Open the page at an address; at the end, fail if it said or asked for anything."""
    contexts, said = [], []

    def open_page(address="", width=1600, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(90_000)
        contexts.append(context)
        page = context.new_page()
        file = (board / "index.html").as_uri()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((file, "data:", "blob:")) else said.append(r.url))
        page.goto(file + address)
        page.wait_for_selector("main")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def turn(page, address):
    """Go to another address of the open page, and wait until it is drawn."""
    page.evaluate("address => { location.hash = address; }", address)
    page.evaluate("() => new Promise(done => setTimeout(() => requestAnimationFrame(done), 30))")


def column(page, name):
    """The texts of a column of the first table."""
    headers = page.locator("thead th").all_inner_texts()
    at = next(index for index, text in enumerate(headers) if text.strip(" ▲▼\n") == name)
    return page.eval_on_selector_all("tbody tr:not(.group)", f"rows => rows.map(r => r.cells[{at}]?.innerText.trim())")


@pytest.mark.parametrize("width", [400, 1600])
def test_every_view_fits_its_width_and_asks_for_nothing(visit, width):
    page = visit("", width)
    sizes = "all => all.filter(e => e.innerText).map(e => parseFloat(getComputedStyle(e).fontSize))"
    for address in VIEWS:
        turn(page, address)
        assert page.locator("main").inner_text().strip(), address
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        assert min(page.eval_on_selector_all("main *:not(.hidden)", sizes)) >= 11, address


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_modes(visit, scheme):
    page = visit("", scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    for address in VIEWS:
        turn(page, address)
        assert page.evaluate(CONTRAST) == [], address


def test_everything_has_a_name_for_a_screen_reader(visit):
    page = visit("")
    assert page.locator("html").get_attribute("lang") == "en"
    for address in VIEWS:
        turn(page, address)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("a, button, input, select, summary, table, figure svg, nav, [role]")]
            .filter(e => !e.hidden && !(e.textContent.trim() || e.ariaLabel || e.closest("label")?.textContent.trim()))
            .map(e => e.outerHTML.slice(0, 100))"""
        )
        assert nameless == [], address
        assert page.get_by_role("heading", level=1).count() == 1
        assert page.locator("figure svg:not([aria-label])").count() == 0


def test_a_keyboard_is_enough(visit):
    page = visit("")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the results"
    page.locator("thead button", has_text="Score").first.focus()
    assert "Smaller is better" in page.get_by_role("tooltip").inner_text()
    assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "hint"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#sort=score"
    menu = page.locator("details.menu", has_text="Suite").first
    menu.locator("summary").focus()
    for key in ("Enter", "Tab", "Space"):
        page.keyboard.press(key)
    assert page.evaluate("location.hash") == "#sort=score&suite=hostile"
    page.keyboard.press("Escape")
    assert menu.get_attribute("open") is None
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_a_header_sorts_its_column_both_ways_and_back(visit):
    page = visit("#view=cells")
    before = column(page, "Error")
    page.get_by_role("button", name="Error", exact=True).click()
    errors = [float(text.split()[0]) for text in column(page, "Error")]
    assert errors == sorted(errors)
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Error")
    page.locator("thead button", has_text="Error").click()
    errors = [float(text.split()[0]) for text in column(page, "Error")]
    assert errors == sorted(errors, reverse=True)
    page.locator("thead button", has_text="Error").click()
    assert column(page, "Error") == before


def test_filters_and_search_leave_what_they_say(visit):
    page = visit("#view=cells")
    page.locator("summary", has_text="Arm").click()
    page.get_by_label("scratch", exact=True).check()
    assert set(column(page, "Arm")) == {"scratch"}
    page.get_by_role("searchbox").fill("ODD,")
    assert set(column(page, "Model")) == {"odd,width=8"}
    page.get_by_role("button", name="Clear").click()
    assert set(column(page, "Model")) == {"best", "worse", "lacking", "odd,width=8", "plain", "conv-small"}


def test_superseded_versions_are_shown_on_demand(visit):
    page = visit("#suite=other")
    assert page.locator("tr.group").all_inner_texts() == ["other v2, smoke"]
    page.get_by_label("older versions").check()
    assert [text.split(",")[0] for text in page.locator("tr.group").all_inner_texts()] == ["other v2", "other v1"]
    assert page.evaluate("location.hash") == "#old=1&suite=other"


def test_names_are_text_and_never_markup(visit):
    page = visit("#suite=hostile")
    turn(page, "#view=cells&suite=hostile")
    page.locator("td.col-error a").click()
    assert page.locator("h2").inner_text() == f"plain on {HOSTILE}, scratch, N = 16"
    turn(page, "#view=plots&suite=hostile")
    assert HOSTILE in page.locator("figure svg").text_content()
    assert page.locator("img").count() == 0


def test_a_filter_of_cells_shows_the_score_of_what_is_left(visit, board):
    page = visit("#suite=smoke&shift=none&model=best")
    cells = json.loads((board / "leaderboard.json").read_text(encoding="utf-8"))["cells"]
    mine = [row for row in cells if (row["model"], row["shift"]) == ("best", "none")]
    errors = [row["error"] for row in mine if row["arm"] in ("zero-shot", "fine-tune")]
    assert column(page, "Score of selection") == [f"{statistics.geometric_mean(errors):#.3g}"]


def test_an_address_restores_what_was_shown(visit):
    page, again, shown = visit("#view=cells"), visit(""), []
    for address in ("#view=cells&sort=-error&cols=model.error.n&arm=scratch&q=best", "#suite=other", PLOTS[-1], CELL):
        turn(page, address)
        turn(again, page.evaluate("address(readAddress())"))
        shown.append(page.locator("main").inner_html())
        assert again.locator("main").inner_html() == shown[-1]
    assert len(set(shown)) == 4


def test_what_is_done_is_in_the_address_and_back_undoes_a_step(visit):
    page = visit("")
    page.get_by_role("link", name="Cells").click()
    page.get_by_role("button", name="Error", exact=True).click()
    page.get_by_role("searchbox").fill("worse")
    assert page.evaluate("location.hash") == "#view=cells&q=worse&sort=error"
    page.go_back()
    assert page.locator("nav [aria-current]").inner_text() == "Ranking"


def test_columns_are_chosen(visit):
    page = visit("#view=cells")
    page.locator("summary", has_text="Columns").click()
    menu = page.locator("details.menu", has_text="Columns")
    menu.get_by_label("System").check()
    menu.get_by_label("Shift").uncheck()
    headers = page.locator("thead th").all_inner_texts()
    assert ("System" in headers, "Shift" in headers) == (True, False)


def test_three_clicks_lead_from_a_rank_to_the_record(visit, board):
    page = visit("")
    page.get_by_role("link", name="best", exact=True).first.click()
    page.get_by_role("link", name="All cells of best").click()
    page.locator("td.col-error a").first.click()
    page.wait_for_selector("section.card")
    text = page.locator("main").inner_text()
    path, line = page.locator("a[href*='.jsonl']").first.get_attribute("href").split("#L")
    record = json.loads((board / path).read_text(encoding="utf-8").splitlines()[int(line) - 1])
    assert record["job_id"] in text
    assert f"--task '{record['task']}'" in text
    assert f"line {line}" in text


def test_a_number_of_the_ranking_leads_to_the_cells_behind_it(visit):
    page = visit("#suite=smoke")
    for name, arms in (("score", {"zero-shot", "fine-tune"}), ("gain", {"fine-tune"})):
        page.locator("tbody tr", has_text="best").first.locator(f"td.col-{name} a").click()
        assert set(column(page, "Model")) == {"best"}
        assert set(column(page, "Arm")) == arms
        page.go_back()


def test_a_cell_shows_its_trials_and_says_which_searches_are_open(visit):
    page = visit("#view=cell&id=searched/v1/smoke/conv-small/SYS-1(5,10)/fine-tune/16")
    assert "open ↓" in page.locator("main").inner_text()
    rows = page.locator("section.card tbody tr").all_inner_texts()
    assert [("chosen" in row, row.split()[2].strip(",")) for row in rows] == [(True, "0.001"), (False, "0.01")]
    assert page.locator("figure svg circle").count() >= 2


def test_what_is_seen_is_saved_as_csv_svg_and_png(visit):
    page = visit("#view=cells&arm=scratch&sort=-error&cols=model.arm.error")

    def saved(name):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        return download.value.path().read_bytes()

    rows = list(csv.DictReader(io.StringIO(saved("CSV").decode())))
    assert [*rows[0]] == ["model", "arm", "error", "error_low", "error_high"]
    assert [row["model"] for row in rows] == column(page, "Model")
    assert {row["arm"] for row in rows} == {"scratch"}
    turn(page, "#view=plots&suite=smoke")
    text = saved("SVG").decode()
    assert text.startswith("<svg")
    assert all(name in text for name in ("best", "worse", "scratch", "SYS-1(5,10)"))
    content = saved("PNG")
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") > 2000  # pixels across


def test_the_chances_of_two_models_against_each_other_make_one(visit):
    page = visit("#view=plots&plot=wins&suite=smoke")
    shares = [int(text[:-1]) for text in page.locator("figure svg tspan").all_text_contents() if text.endswith("%")]
    assert len(shares) == 2  # one of the three models is not complete
    assert sum(shares) == pytest.approx(100, abs=1)
    turn(page, "#view=plots&plot=wins&suite=smoke&shift=none")
    assert not any("%" in text for text in page.locator("figure svg tspan").all_text_contents())


def test_cost_can_be_training_flops_or_the_time_of_a_prediction_with_solvers_beside(visit):
    page = visit("#view=plots&plot=cost")
    assert page.locator("figure svg .legend").first.inner_html().count("circle") > 1
    assert page.get_by_text("solver", exact=True).count() == 0
    page.locator("label", has_text="Cost").locator("select").select_option("inference_seconds")
    assert "by=inference_seconds" in page.url
    page.wait_for_function("() => document.querySelector('figure svg').textContent.includes('Time of a prediction')")
    text = page.locator("figure svg").last.text_content()
    assert text.endswith("spectral-2fd")  # the exact one has no place on a logarithmic axis
    assert "250 µs" in page.evaluate("duration(2.5e-4)")


def test_a_model_shows_its_card_and_what_it_has_seen(visit):
    page = visit("#view=model&id=best")
    card = page.get_by_role("region", name="Model card")
    text = card.inner_text()
    assert all(part in text for part in ("Ada Lovelace, <b>Emmy</b>", "MIT", "10.1000/182", "1 GPU, 2.5 h"))
    assert "with SYS-1(5,10)" in card.locator(".warn").inner_text()
    assert card.get_by_role("link", name="CC-BY-4.0").get_attribute("href") == "https://example.org/weights"
    turn(page, "#suite=smoke&model=best")
    assert column(page, "Seen before") == ["SYS-1(5,10)"]


def test_a_cell_shows_its_second_measurements_and_flags_those_too_far_away(visit):
    page = visit(CELL)
    table = page.get_by_role("region", name="Second measurements of seed 0")
    rows = table.locator("tbody tr").all_inner_texts()
    assert [("beyond the spread" in row) for row in rows] == [False, True]
    assert "2.00 %" in rows[0]
    turn(page, "#suite=smoke&model=best")
    (text,) = column(page, "Confirmed by")
    assert text == "20 of 21 results, 1 apart"
    assert page.locator("td.col-confirmed .warn").count() == 1


def test_solvers_have_a_table_of_their_own(visit):
    page = visit("#view=solvers")
    assert column(page, "Solver") == ["spectral", "spectral", "spectral-2", "spectral-2", "fd", "fd"]
    assert column(page, "Time") == ["1 ms"] * 6
    assert page.locator("tbody a").count() == 0


def test_a_rank_says_which_others_are_possible_and_a_preview_that_it_is_one(visit):
    page = visit("#suite=smoke&cols=rank.model.score.groups.interval_over")
    ranks, scores, letters = (column(page, name) for name in ("Rank", "Score", "Groups"))
    assert ranks[:2] == ["1", "2"]
    assert scores[0].count("–") == 1
    assert letters[:2] == ["a", "b"]
    turn(page, "#suite=searched")
    assert "preview" not in "".join(column(page, "Rank"))
