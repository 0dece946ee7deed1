// What the Rust library and the program know of each other.

#pragma once

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

// What requests do to the window. All of it is called on the GUI's thread.
struct Window {
    void *window;
    void (*set_label)(void *window, const char *text);
    // Opens a modal dialog, and returns when it is closed.
    void (*open_dialog)(void *window, const char *text);
    void (*quit)(void *window);
};

// Serves HTTP in the application's loop from now on, until the application quits. The window is
// copied, and must live that long.
bool network_start(const struct Window *window);

#ifdef __cplusplus
}
#endif
