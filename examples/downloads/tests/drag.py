"""A window with a link, which a mouse drags into the other window: drag.py URL"""
import subprocess
import sys

import gi

gi.require_version("Gtk", "4.0")
from gi.repository import Gdk, GLib, GObject, Gtk  # noqa: E402


def mouse(*arguments):
    subprocess.run(["xdotool", *map(str, arguments)], check=True)


# Each step waits until the windows have seen the one before.
STEPS = [
    ("mousemove", 30, 550),
    ("mousedown", 1),
    *(("mousemove", 30 + 10 * step, 550 - 15 * step) for step in range(1, 21)),
    ("mousemove", 231, 250),
    ("mouseup", 1),
]


def activate(application):
    link = Gtk.Label(label="A link")
    source = Gtk.DragSource(actions=Gdk.DragAction.COPY)
    value = GObject.Value(GObject.TYPE_STRING, sys.argv[1])
    source.connect("prepare", lambda *_: Gdk.ContentProvider.new_for_value(value))
    source.connect("drag-end", lambda *_: GLib.timeout_add(200, application.quit))
    link.add_controller(source)
    window = Gtk.ApplicationWindow(application=application, child=link, title="Links")
    window.set_default_size(100, 60)
    window.set_decorated(False)
    window.present()
    steps = iter(STEPS)

    def step():
        for arguments in steps:
            mouse(*arguments)
            return True
        return False

    def place():
        # Without a window manager, windows are where they say.
        subprocess.run(["xdotool", "search", "--name", "^Links$", "windowmove", "0", "520"], check=True)
        GLib.timeout_add(30, step)
        return False

    GLib.timeout_add(500, place)
    GLib.timeout_add_seconds(20, lambda: sys.exit("the link was not dragged"))


application = Gtk.Application(application_id="org.entwined.Links", flags=1 << 5)
application.connect("activate", activate)
application.run()
