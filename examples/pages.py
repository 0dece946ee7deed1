"""Opens each page in Chromium, in light and dark, wide and as wide as a phone; looks at what a
reader, a keyboard and a screen reader meet there; and leaves pictures.

usage: pages.py FOLDER NAME=URL ...
"""

import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

LIMIT = 30

# WCAG 2.2, AA: contrast of text (1.4.3) and of controls (1.4.11), reflow (1.4.10), target size
# (2.5.8). Returns the faults as texts.
AUDIT = """
const faults = [];
const root = document.documentElement;
if (root.scrollWidth > innerWidth) faults.push(`wider than the window: ${root.scrollWidth}`);
if (!root.lang || !document.title) faults.push('no language or no title');
for (const one of ['h1', 'main']) if (document.querySelectorAll(one).length != 1) faults.push('not one ' + one);
if (!document.querySelector('[role=status], [role=alert], [role=log], [aria-live]')) faults.push('changes are not read aloud');
const ids = [...document.querySelectorAll('[id]')].map(one => one.id);
if (new Set(ids).size != ids.length) faults.push('an id is there twice');

const parse = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return {r, g, b, a}; };
const over = (top, low) => ({a: 1, ...Object.fromEntries(['r', 'g', 'b'].map(c => [c, top[c] * top.a + low[c] * (1 - top.a)]))});
const ground = one => {
  if (!one) return {r: 255, g: 255, b: 255, a: 1};
  const own = parse(getComputedStyle(one).backgroundColor);
  return own.a == 1 ? own : over(own, ground(one.parentElement));
};
const light = ({r, g, b}) => [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const contrast = (one, other) => { const [low, high] = [light(one), light(other)].sort((a, b) => a - b); return (high + .05) / (low + .05); };
const named = one => `<${one.tagName.toLowerCase()} id=${one.id} class=${one.className}> ${one.textContent.trim().slice(0, 30)}`;

const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let text = texts.nextNode(); text; text = texts.nextNode()) {
  const one = text.parentElement;
  if (!text.data.trim() || !one.checkVisibility() || one.closest(':disabled, script, style, .spoken, option')) continue;
  const style = getComputedStyle(one), size = parseFloat(style.fontSize), back = ground(one);
  const least = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
  const found = contrast(over(parse(style.color), back), back);
  if (found < least) faults.push(`contrast ${found.toFixed(2)}: ${named(one)}`);
}
for (const one of document.querySelectorAll('button:enabled, input:enabled, select, textarea')) {
  const box = one.getBoundingClientRect();
  if (!one.checkVisibility() || !box.width) continue;
  if (box.height < 24 || box.width < 24) faults.push(`too small: ${named(one)}`);
  const style = getComputedStyle(one), back = ground(one.parentElement);
  const edge = contrast(over(parse(style.borderTopColor), back), back), fill = contrast(ground(one), back);
  // A control without an edge is text, whose contrast was seen.
  if (parseFloat(style.borderTopWidth) && Math.max(edge, fill) < 3) faults.push(`edge ${edge.toFixed(2)}: ${named(one)}`);
}
return faults;
"""

FOCUSABLE = """
const all = document.querySelectorAll('a[href], button:enabled, input:enabled, select, textarea, [tabindex]');
return [...all].filter(one => one.tabIndex >= 0 && one.checkVisibility());
"""

FOCUSED = """
const one = document.activeElement, style = getComputedStyle(one);
return [one, parseFloat(style.outlineWidth) >= 2 && style.outlineStyle != 'none'];
"""


class Page:
    def __init__(self, driver, name, url, folder):
        self.driver, self.name, self.url, self.folder = driver, name, url, folder
        self.faults = []

    def show(self, scheme, width):
        # Without motion, no colour is seen on its way to another.
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def open(self):
        self.driver.get(self.url)

    def fault(self, what):
        self.faults.append(f"{self.name}: {what}")

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def by(self, name):
        return self.driver.find_element(By.ID, name)

    def wait(self, what, until):
        try:
            WebDriverWait(self.driver, LIMIT).until(lambda _: until())
        except Exception as error:
            raise SystemExit(f"{self.name}: {what}: {error}")

    def look(self):
        """All that holds for each page."""
        for scheme in ["light", "dark"]:
            for width in [1000, 360]:
                self.show(scheme, width)
                for fault in self.driver.execute_script(AUDIT):
                    self.fault(f"{scheme}, {width}: {fault}")
                self.picture(f"{scheme}-{width}")
        self.show("light", 1000)
        self.tab()

    def picture(self, kind):
        whole = self.driver.execute_script("return document.documentElement.scrollHeight")
        width = self.driver.execute_script("return innerWidth")
        size = {"width": width, "height": whole, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.save_screenshot(str(self.folder / f"page-{self.name}-{kind}.png"))

    def tab(self):
        """Each control is reached by Tab, is seen to be, and has a name and a role."""
        for one in self.driver.execute_script(FOCUSABLE):
            if not one.accessible_name or one.aria_role in ["", "generic", "none"]:
                self.fault(f"no name or role: {one.get_attribute('outerHTML')[:100]}")
        wanted = self.driver.execute_script(FOCUSABLE)
        self.driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
        for _ in range(len(wanted) + 3):
            self.keys(Keys.TAB)
            one, seen = self.driver.execute_script(FOCUSED)
            if one in wanted:
                wanted.remove(one)
                if not seen:
                    self.fault(f"focus is not seen: {one.get_attribute('outerHTML')[:100]}")
        for one in wanted:
            self.fault(f"Tab does not reach {one.get_attribute('outerHTML')[:100]}")

    def go_to(self, name):
        """Goes to a control by Tab alone."""
        for _ in range(60):
            if self.driver.execute_script("return document.activeElement.id") == name:
                return
            self.keys(Keys.TAB)
        raise SystemExit(f"{self.name}: Tab does not lead to {name}")


def seats(page):
    page.wait("seats", lambda: page.driver.find_elements(By.CSS_SELECTOR, "#map [data-state]"))
    page.go_to("seat1")
    page.keys(Keys.ARROW_RIGHT, Keys.ENTER)
    page.wait("a hold", lambda: "Seat 2 is yours" in page.by("say").text)
    page.look()
    page.go_to("confirm")
    page.keys(Keys.ENTER)
    page.wait("a sale", lambda: "bought seat 2" in page.by("say").text)


def chat(page):
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    second = page.driver.current_window_handle
    page.open()
    for window, said in [(first, "hello"), (second, "good day")]:
        page.driver.switch_to.window(window)
        page.wait("a stranger", lambda: "Say hello" in page.by("log").text)
        page.go_to("text")
        page.keys(said, Keys.ENTER)
    page.driver.switch_to.window(second)
    page.driver.close()
    page.driver.switch_to.window(first)
    page.wait("a word", lambda: "good day" in page.by("log").text)
    page.look()


def ci(page):
    page.go_to("script")
    chain = ActionChains(page.driver).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL)
    chain.send_keys("echo hello", Keys.TAB, Keys.ENTER).perform()
    page.wait("a build", lambda: page.driver.find_elements(By.ID, "cancel1"))
    page.wait("its log", lambda: page.by("one").is_displayed())
    page.look()
    page.go_to("cancel1")
    page.keys(Keys.ENTER)
    page.wait("its end", lambda: "cancelled" in page.by("builds").text)
    focused = page.driver.execute_script("return document.activeElement.id")
    if focused not in ["cancel1", "build1"]:
        page.fault(f"the focus is lost: {focused}")


def notebook(page):
    page.go_to("name")
    page.keys("A notebook", Keys.TAB, "python", Keys.TAB, Keys.ENTER)
    page.wait("a notebook", lambda: page.driver.find_elements(By.CSS_SELECTOR, "#cells textarea"))
    while page.driver.execute_script("return document.activeElement.tagName") != "TEXTAREA":
        page.keys(Keys.TAB)
    for number, source in enumerate(["print('hello')\n6 * 7", "1 / 0"], 1):
        chain = ActionChains(page.driver).send_keys(source).key_down(Keys.SHIFT)
        chain.send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
        sources = (By.CSS_SELECTOR, "#cells textarea")
        page.wait("a new cell", lambda: len(page.driver.find_elements(*sources)) == number + 1)
    page.wait("its output", lambda: "hello\n42" in page.by("cells").text)
    page.wait("an error", lambda: "ZeroDivisionError" in page.by("cells").text)
    page.look()
    page.driver.get(page.url)
    page.name = "notebooks"
    page.wait("the list", lambda: "A notebook" in page.by("list").text)
    page.look()


def control_room(page):
    page.wait("the state", lambda: page.by("status-text").text == "Live")
    page.go_to("add")
    page.keys(Keys.ENTER)
    page.wait("the count", lambda: page.by("count").text == "1")
    page.go_to("text")
    page.keys("hello")
    page.look()


def monitor(page):
    page.wait("figures", lambda: page.by("state").text == "Live")
    page.wait("work", lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#legend-busy span")))
    # So that the plots are more than a dot.
    time.sleep(2)
    page.look()


def main():
    folder, *pages = sys.argv[1:]
    options = webdriver.ChromeOptions()
    for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]:
        options.add_argument(argument)
    options.binary_location = "/usr/bin/chromium"
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    driver.set_page_load_timeout(LIMIT)
    faults = []
    try:
        for text in pages:
            name, url = text.split("=", 1)
            page = Page(driver, name, url, Path(folder))
            page.show("light", 1000)
            page.open()
            globals()[name](page)
            faults += page.faults
    finally:
        driver.quit()
    if faults:
        raise SystemExit("\n".join(faults))
    print(f"{len(pages)} pages, without a fault; pictures in {folder}")


main()
