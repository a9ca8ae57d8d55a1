"""What people do on the page, in Chromium."""

import re

import pytest
from browsing import Site, browser, empty_site, look, quick_jobs, site
from services import png, pngs

from conftest import stripes
from unlike.serving.security.users import add_user

PASSWORD = "a long enough password"


@pytest.fixture
def normals(tmp_path):
    """A folder of normal images, and a file that is none."""
    folder = tmp_path / "good"
    folder.mkdir()
    for number, image in enumerate(stripes(30, seed=5)):
        (folder / f"{number:03d}.png").write_bytes(png(image))
    (folder / "notes.txt").write_text("taken on Monday")
    return folder


def add_people(site: Site, **roles: str) -> None:
    services = site.app.state.services
    with services.database.sessions.begin() as session:
        for name, role in roles.items():
            add_user(session, name, PASSWORD, role)
    services.security.added_user()


def log_in(look, site, name, password=PASSWORD):
    look.goto(f"{site.url}/ui/login")
    look.fill("#name", name)
    look.fill("#password", password)
    look.click("main form button")


def test_the_first_detector_comes_from_a_folder_that_is_looked_at_first(look, empty_site, normals):
    look.goto(empty_site.url)
    assert "Show it what normal looks like" in look.inner_text("main")
    look.fill("#name", "bolts")
    look.set_input_files("#folder", str(normals))
    assert look.inner_text("#chosen").startswith("31 files")
    look.click("text=Look at them first")
    look.wait_for_selector("#go:not([hidden])")
    assert "notes.txt" in look.inner_text("#left-out")
    assert "30 images are kept" in look.inner_text("#left-out")
    assert "30" in look.inner_text("#looked")
    assert empty_site.get("/detectors") == {"items": []}
    look.click("#fit")
    look.click("#to-detector")
    look.wait_for_url("**/ui/?detector=bolts")
    look.set_input_files(
        "#score-files", [{"name": f"{n}.png", "mimeType": "image/png", "buffer": one} for n, one in enumerate(pngs(4))]
    )
    look.click("#score button")
    look.wait_for_selector(".card.odd")
    assert look.locator(".card").count() == 4
    assert look.locator(".anomalous").count() == 2


def test_images_are_reviewed_by_key(look, site):
    look.goto(f"{site.url}/ui/?verdict=anomalous")
    assert look.locator(".card").count() == 3
    look.keyboard.press("n")
    look.wait_for_selector("#one")
    first = look.get_attribute("#one", "data-id")
    look.keyboard.press("k")
    look.keyboard.type("scratch")
    look.keyboard.press("Enter")
    look.keyboard.press("r")
    look.wait_for_function("id => document.getElementById('one')?.dataset.id !== id", arg=first)
    second = look.get_attribute("#one", "data-id")
    look.keyboard.press("f")
    look.wait_for_function("id => document.getElementById('one')?.dataset.id !== id", arg=second)
    said = {one["id"]: one["review"] for one in site.get("/images?reviewed=true")["items"]}
    assert said[first]["verdict"] == "right"
    assert said[first]["kind"] == "scratch"
    assert said[second]["verdict"] == "false_alarm"
    assert said[second]["by"] == "local"
    look.goto(f"{site.url}/ui/images/{first}")
    assert "right, scratch" in look.inner_text(".trail")


def test_what_lies_over_an_image_is_turned_off_by_key_and_stays_off(look, site):
    image = site.get("/images?verdict=anomalous")["items"][0]
    look.goto(f"{site.url}/ui/images/{image['id']}")
    look.wait_for_selector("#alike:not(:has-text('looking'))")
    assert look.locator("#boxes rect").count() == 2 * len(image["regions"]) > 0
    look.keyboard.press("o")
    assert look.get_attribute("#overlay", "aria-pressed") == "false"
    assert look.locator("#over").is_hidden()
    look.reload()
    assert look.locator("#over").is_hidden()
    assert look.locator("#boxes").is_visible()
    look.keyboard.press("?")
    assert "false alarm" in look.inner_text("#keys-list")
    look.uncheck("#keys-on")
    look.click("#keys [data-close]")
    look.keyboard.press("o")
    assert look.locator("#over").is_hidden()


def test_new_images_come_while_the_list_is_looked_at(look, site):
    look.goto(f"{site.url}/ui/?verdict=anomalous")
    look.evaluate("window.same = true")
    site.score([png(image) for image in 255 - stripes(2, seed=31) // 4])
    look.wait_for_selector(".card.fresh >> nth=1")
    assert look.locator(".card").count() == 5
    assert look.evaluate("window.same")


def test_a_threshold_is_moved_and_saved_and_the_way_back(look, site):
    for one in site.get("/images?verdict=anomalous")["items"]:
        look.request.post(f"{site.url}/images/{one['id']}/review", data={"verdict": "right"})
    look.goto(f"{site.url}/ui/detectors/cells/threshold")
    assert look.locator(".is-defect").count() == 3
    assert look.is_disabled("#save-go")
    before = look.inner_text("#new-threshold")
    look.focus("#stop")
    look.keyboard.press("Home")
    assert look.inner_text("#new-threshold") != before
    assert look.inner_text("#new-share") == "48.4 %"
    assert look.inner_text("#new-found") == "3"
    assert site.get("/detectors/cells")["version"] == 1
    look.click("#save-go")
    look.wait_for_selector("text=version 2 scores now")
    version = site.get("/detectors/cells")["versions"][0]
    assert round(version["figures"]["facts"]["promise"], 3) == 0.484
    assert version["state"] == "current"
    look.click("text=Versions >> nth=0")
    look.click("text=Roll back")
    look.click("#sure-yes")
    look.wait_for_selector("text=version 1 scores now")
    assert site.get("/detectors/cells")["version"] == 1


def test_a_refit_is_compared_and_promoted_or_discarded(look, site, normals):
    for one in site.get("/images")["items"]:
        look.request.post(f"{site.url}/images/{one['id']}/review", data={"verdict": "right"})
    look.goto(f"{site.url}/ui/detectors/cells")
    assert "No folder of good images" in look.inner_text("#refit")
    look.set_input_files("#more-folder", str(normals))
    look.click("#add-normals button")
    look.wait_for_selector("#refit fieldset")
    look.click("text=Fit a new version")
    look.wait_for_selector("#refit-job >> button:text-is('Promote')")
    told = look.inner_text("#refit-job")
    assert "AUROC" in told
    assert "3 confirmed defects" in told
    assert "The images" in told
    look.click("#refit-job >> button:text-is('Promote')")
    look.click("#sure-yes")
    look.wait_for_selector("text=version 2 scores now")
    look.check("[aria-label='Compare version 1']")
    look.click("#compare-go")
    look.wait_for_selector("#compare-job[aria-live] >> text=AUROC")
    assert look.locator("#compare-job .whisker").count() >= 2
    look.click("[aria-label='Discard version 1']")
    look.click("#sure-yes")
    look.wait_for_selector("tr.quiet")
    states = {one["number"]: one["state"] for one in site.get("/detectors/cells")["versions"]}
    assert states == {1: "discarded", 2: "current"}


def test_people_log_in_and_see_what_their_role_may_do(look, site):
    add_people(site, ada="admin", rita="reviewer", vera="viewer")
    look.goto(f"{site.url}/ui/detectors")
    assert "/ui/login?after=" in look.url
    log_in(look, site, "vera", "something else")
    look.wait_for_selector("#said.bad")
    assert "another password" in look.inner_text("#said")
    look.faults.clear()  # the browser's own word on 401
    log_in(look, site, "vera")
    look.wait_for_url("**/ui/")
    look.click(".card a >> nth=0")
    look.wait_for_selector("#one")
    assert look.locator("[data-verdict]").count() == 0
    assert look.request.get(f"{site.url}/ui/people").status == 403
    look.click("text=Log out")
    look.wait_for_url("**/ui/login")
    log_in(look, site, "rita")
    look.wait_for_url("**/ui/")
    look.click(".card a >> nth=0")
    look.click("[data-verdict=right]")
    look.wait_for_selector("text=part")
    look.goto(f"{site.url}/ui/detectors/cells")
    assert look.locator("text=Roll back").count() == 0
    assert look.locator("#refit").count() == 1
    look.goto(f"{site.url}/ui/account")
    look.fill("#token-name", "camera 2")
    look.click("#new-token button")
    look.wait_for_selector("#made-token pre")
    look.click("text=Log out")
    look.wait_for_url("**/ui/login")
    log_in(look, site, "ada")
    look.wait_for_url("**/ui/")
    look.click("nav >> text=People")
    look.select_option("[data-role=vera]", "reviewer")
    look.wait_for_selector("#said:has-text('vera is reviewer now')")
    look.fill("#new-name", "otto")
    look.fill("#new-password", PASSWORD)
    look.click("form[data-form='/users'] button")
    look.wait_for_selector("th:has-text('otto')")
    assert re.search("rita\\s+review", look.inner_text("main"))


PAGES = ("", "detectors", "detectors/cells", "detectors/cells/threshold", "detectors/cells/drift")
OTHERS = ("new", "jobs", "connections", "people", "?verdict=normal&from=2001-01-01&to=2001-01-02")


def test_no_page_shuts_anybody_out_or_is_wider_than_a_telephone(look, site):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()
    look.emulate_media(color_scheme="light", reduced_motion="reduce")
    look.set_viewport_size({"width": 360, "height": 800})
    image = site.get("/images?verdict=anomalous")["items"][0]["id"]
    look.request.post(f"{site.url}/images/{image}/review", data={"verdict": "right", "kind": "scratch"})
    for page in (f"images/{image}", *PAGES, *OTHERS):
        look.goto(f"{site.url}/ui/{page}")
        assert look.evaluate("document.documentElement.scrollWidth") <= 360, page
        assert not grave(axe.run(look)), page
        look.keyboard.press("t")
        assert look.get_attribute("html", "data-theme") == "dark"
        assert not grave(axe.run(look, options={"runOnly": ["color-contrast"]})), page
        look.keyboard.press("t")


def grave(found):
    """What axe calls serious, and where."""
    return [
        (one["id"], one["nodes"][0]["html"])
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
