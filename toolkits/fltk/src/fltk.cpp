// What the backend and its test need of FLTK, callable from C. It decides nothing.

#include <FL/Fl.H>
#include <FL/Fl_Box.H>
#include <FL/Fl_Window.H>

extern "C" {

void on_fltk_watch(int fd, void (*call)(int, void *), void *data)
{
    Fl::add_fd(fd, FL_READ, call, data);
}
void on_fltk_unwatch(int fd) { Fl::remove_fd(fd); }

// Before each sleep.
void on_fltk_add_check(void (*call)(void *), void *data) { Fl::add_check(call, data); }
void on_fltk_remove_check(void (*call)(void *), void *data) { Fl::remove_check(call, data); }

// Makes the loop call this instead of going to sleep, or wakes it. The first `lock` makes it able to.
// Returns false if too many calls are waiting, which keep the loop from its sleep too.
void on_fltk_lock() { Fl::lock(); }
bool on_fltk_awake(void (*call)(void *), void *data) { return Fl::awake(call, data) == 0; }

void on_fltk_add_timeout(double seconds, void (*call)(void *), void *data)
{
    Fl::add_timeout(seconds, call, data);
}

// As often as the loop can, until it is removed.
void on_fltk_add_idle(void (*call)(void *), void *data) { Fl::add_idle(call, data); }
void on_fltk_remove_idle(void (*call)(void *), void *data) { Fl::remove_idle(call, data); }

// Programs call `Fl::awake` too.
static void nothing(void *) {}
void on_fltk_fill_ring()
{
    while (Fl::awake(nothing, nullptr) == 0) {
    }
}

// One iteration.
void on_fltk_wait(double seconds) { Fl::wait(seconds); }

Fl_Window *on_fltk_dialog()
{
    auto *window = new Fl_Window(420, 80, "A dialog");
    new Fl_Box(0, 0, 420, 80, "The callback that opened it waits, the network goes on.");
    window->end();
    window->set_modal();
    return window;
}
void on_fltk_dialog_show(Fl_Window *window) { window->show(); }
void on_fltk_dialog_hide(Fl_Window *window) { window->hide(); }
bool on_fltk_dialog_shown(Fl_Window *window) { return window->shown(); }
void on_fltk_dialog_delete(Fl_Window *window) { delete window; }

} // extern "C"
