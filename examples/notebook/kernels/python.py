"""A kernel: runs cells of Python, each in the same scope.

A cell comes on fd 0: a line `NUMBER BYTES`, then the code. What happens is a line of JSON on fd 3,
and then the mark, which is in $MARK, on fd 1, so that the other side knows where in the output it
happened.
"""
import ast
import base64
import io
import json
import linecache
import os
import signal
import sys
import traceback

os.environ.setdefault("MPLBACKEND", "Agg")
INTERRUPT = {signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)
mark = os.environ.pop("MARK").encode()
cells = os.fdopen(os.dup(0), "rb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
# One pipe for both outputs, so that their lines come in order.
os.dup2(1, 2)
sys.stdout.reconfigure(line_buffering=True)
events = os.fdopen(3, "w", encoding="utf-8")
os.set_inheritable(3, False)
scope = {"__name__": "__main__", "__builtins__": __builtins__}
sys.argv = [""]


# Longer events would not be taken. Less is shown, too.
MAX_TEXT = 1024 * 1024
MAX_PICTURE = 12 * 1024 * 1024


def cut(text):
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "\nThe rest is left out.\n"


def say(kind, **more):
    sys.stdout.flush()
    sys.stderr.flush()
    events.write(json.dumps({"type": kind, **more}) + "\n")
    events.flush()
    os.write(1, mark)


def run(code, name):
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    tree = ast.parse(code, name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, "exec"), scope)
    if last is not None:
        value = eval(compile(last, name, "eval"), scope)
        if value is not None:
            scope["_"] = value
            return repr(value)


def pictures():
    plots = sys.modules.get("matplotlib.pyplot")
    for number in plots.get_fignums() if plots else []:
        picture = io.BytesIO()
        plots.figure(number).savefig(picture, format="png")
        plots.close(number)
        yield base64.b64encode(picture.getvalue()).decode()


def step():
    """Runs a cell. An interrupt (SIGINT) before it waits until it begins."""
    count, length = map(int, cells.readline().split())
    code = cells.read(length).decode()
    value, error, shown = None, None, []
    name = f"<cell {count}>"
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
        value = run(code, name)
        shown = list(pictures())
    except SystemExit:
        raise
    except BaseException as raised:
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)
        # Leave out the lines of this file, and those that compile.
        at = raised.__traceback__
        while at and at.tb_frame.f_code.co_filename in (__file__, ast.__file__):
            at = at.tb_next
        lines = traceback.format_exception(type(raised), raised, at)
        error = "".join(lines)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)
        signal.sigtimedwait(INTERRUPT, 0)
    for picture in shown:
        if len(picture) <= MAX_PICTURE:
            say("picture", png=picture)
        else:
            say("error", text="A picture is too large, and left out.\n")
    if value is not None:
        say("value", text=cut(value))
    if error is not None:
        say("error", text=cut(error))
    say("done")


say("ready")
__file__ = run.__code__.co_filename
while cells.peek(1):
    step()
