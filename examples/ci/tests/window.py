"""A person with a screen reader, by AT-SPI's library: window.py see | select | press WHAT

`see` waits until something that is shown has the text WHAT, `select` selects its row, and `press`
presses the button of this name or description."""
import sys
import time

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, GLib  # noqa: E402

what, wanted = sys.argv[1:]


def below(node):
    for at in range(node.get_child_count()):
        child = node.get_child_at_index(at)
        if child is not None:
            yield child
            yield from below(child)


def text(node):
    if node.get_role() == Atspi.Role.TEXT:
        return Atspi.Text.get_text(node, 0, Atspi.Text.get_character_count(node))
    return node.get_name()


def done():
    for node in below(Atspi.get_desktop(0)):
        if what == "see" and wanted in text(node):
            return True
        if what == "select" and node.get_role() == Atspi.Role.LIST_ITEM:
            if any(wanted in text(part) for part in below(node)):
                at = node.get_index_in_parent()
                return Atspi.Selection.select_child(node.get_parent(), at)
        is_button = node.get_role() == Atspi.Role.PUSH_BUTTON
        if what == "press" and is_button and wanted in (node.get_name(), node.get_description()):
            return Atspi.Action.do_action(node, 0)
    return False


deadline = time.monotonic() + 30
while True:
    try:
        if done():
            break
    except GLib.Error:
        pass  # What was looked at has gone.
    if time.monotonic() > deadline:
        sys.exit(f"no {wanted!r}: {[text(node) for node in below(Atspi.get_desktop(0))]}")
    time.sleep(0.02)
