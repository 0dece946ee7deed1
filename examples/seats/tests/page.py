"""A person in a browser holds a seat for too long: page.py URL DATABASE"""
import subprocess
import sys

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

url, database = sys.argv[1:]
options = webdriver.ChromeOptions()
for option in ["--headless=new", "--no-sandbox", "--disable-gpu"]:
    options.add_argument(option)
options.binary_location = "/usr/bin/chromium"
driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
wait = WebDriverWait(driver, 30)
said = lambda text: wait.until(lambda _: text in driver.find_element(By.ID, "say").text)
click = lambda name: wait.until(lambda _: driver.find_elements(By.ID, name))[0].click()


def end():
    sql = "UPDATE seat SET until = 1 WHERE token NOTNULL AND NOT sold"
    subprocess.run(["sqlite3", database, sql], check=True)


try:
    driver.get(url)
    click("seat7")
    said("Seat 7 is yours")
    end()
    click("seat8")
    said("Seat 8 is yours")
    end()
    click("confirm")
    said("its time is over")
    wait.until(lambda _: not driver.find_element(By.ID, "confirm").is_displayed())
    click("seat9")
    said("Seat 9 is yours")
    click("confirm")
    said("You have bought seat 9")
finally:
    driver.quit()
