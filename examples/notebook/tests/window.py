"""A person with a screen reader, by AT-SPI's library: window.py STEP ...

`see=WHAT` waits until something that is shown has the text WHAT, and `cells=NUMBER` until there are
so many. `press=WHAT` presses the last button of this name, `write=WHAT` replaces what is in the
last cell, and `name=WHAT` what is in the field for the name of a new notebook."""
import sys
import time

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, GLib  # noqa: E402


def below(node):
    for at in range(node.get_child_count()):
        child = node.get_child_at_index(at)
        if child is not None:
            yield child
            yield from below(child)


def shown():
    return list(below(Atspi.get_desktop(0)))


def text(node):
    if node.get_role() == Atspi.Role.TEXT:
        return Atspi.Text.get_text(node, 0, Atspi.Text.get_character_count(node))
    return node.get_name()


def fields():
    """What can be written into: the name of a new notebook, then the cells."""
    states = ((node, node.get_state_set()) for node in shown())
    return [node for node, state in states if state.contains(Atspi.StateType.EDITABLE)]


def write(number, what):
    return Atspi.EditableText.set_text_contents(fields()[number], what)


def press(name):
    for node in reversed(shown()):
        is_button = node.get_role() == Atspi.Role.PUSH_BUTTON
        if is_button and name == node.get_name():
            if node.get_state_set().contains(Atspi.StateType.SENSITIVE):
                return Atspi.Action.do_action(node, 0)
    return False


def done(step):
    what, wanted = step.split("=", 1)
    if what == "see":
        return any(wanted in text(node) for node in shown())
    if what == "cells":
        return len(fields()) - 1 == int(wanted)
    if what == "press":
        return press(wanted)
    return write({"name": 0, "write": -1}[what], wanted)


for step in sys.argv[1:]:
    deadline = time.monotonic() + 30
    while True:
        try:
            if done(step):
                break
        except (GLib.Error, IndexError):
            pass  # What was looked at has gone, or has not come yet.
        if time.monotonic() > deadline:
            sys.exit(f"not done: {step!r}; shown: {[text(node) for node in shown()]}")
        time.sleep(0.02)
