"""The program as a person uses it: in Chromium, by its driver. page.py URL [FOLDER FOR PICTURES]"""
import sys

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

url = sys.argv[1]
options = webdriver.ChromeOptions()
for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
    options.add_argument(argument)
options.add_argument("--window-size=900,1000")
options.binary_location = "/usr/bin/chromium"
service = webdriver.ChromeService if hasattr(webdriver, "ChromeService") else None
if service is None:
    from selenium.webdriver.chrome.service import Service as service
browser = webdriver.Chrome(options=options, service=service("/usr/bin/chromedriver"))


def wait(condition):
    return WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda _: condition())


def find(selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def cells():
    return find("#cells article")


def outputs(cell):
    return cell.find_element(By.CSS_SELECTOR, ".outputs").text


def code(cell):
    return cell.find_element(By.TAG_NAME, "textarea")


def idle(cell):
    return cell.get_attribute("data-state") == "idle"


try:
    browser.get(url)
    browser.find_element(By.ID, "name").send_keys("A notebook")
    kernels = wait(lambda: [o.text for o in find("#kernel option")])
    assert kernels == ["mine", "python", "shell"], kernels
    Select(browser.find_element(By.ID, "kernel")).select_by_visible_text("python")
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    wait(lambda: len(cells()) == 1)
    assert browser.title == "A notebook"

    # By the keyboard alone: each run goes on to a new cell.
    code(cells()[0]).click()
    sources = (
        "x = 6\nprint('hello')\nx * 7",
        "<b>not bold</b>",
        "import time\nwhile True: time.sleep(1)",
    )
    for text in sources:
        at = len(cells())
        browser.switch_to.active_element.send_keys(text, Keys.SHIFT, Keys.ENTER)
        wait(lambda: len(cells()) == at + 1 and browser.switch_to.active_element == code(cells()[-1]))
    first, second, third = cells()[:3]
    wait(lambda: outputs(first) == "hello\n42")
    wait(lambda: "SyntaxError" in outputs(second) and "<b>not bold</b>" in outputs(second))
    wait(lambda: third.get_attribute("data-state") == "running")
    browser.find_element(By.ID, "interrupt").click()
    wait(lambda: "KeyboardInterrupt" in outputs(third) and idle(third))

    plot = (
        "from matplotlib import pyplot\nfigure = pyplot.figure(figsize=(4, 2))\n"
        "_ = pyplot.plot([1, 4, 9, 16])"
    )
    code(cells()[-1]).send_keys(plot, Keys.SHIFT, Keys.ENTER)
    wait(lambda: find("#cells img"))
    wait(lambda: browser.execute_script("return arguments[0].naturalWidth", find("#cells img")[0]) == 400)
    if len(sys.argv) > 2:
        browser.save_screenshot(f"{sys.argv[2]}/light.png")

    # What is there stays there, for another page as well.
    browser.refresh()
    wait(lambda: len(cells()) == 5 and find("#cells img"))
    assert outputs(cells()[0]) == "hello\n42"
    assert code(cells()[0]).get_attribute("value").startswith("x = 6")
    browser.find_element(By.ID, "restart").click()
    last = cells()[-1]
    code(last).send_keys("x")
    last.find_element(By.XPATH, ".//button[text()='Run']").click()
    wait(lambda: "NameError" in outputs(cells()[-1]))
    errors = [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]]
    assert not errors, errors
    if len(sys.argv) > 2:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        browser.set_window_size(420, 900)
        browser.save_screenshot(f"{sys.argv[2]}/dark.png")
finally:
    browser.quit()
