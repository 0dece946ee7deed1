// What the Rust library and the program know of each other.

#pragma once

#include <stdbool.h>

// What requests do to the window. All of it is called on the main thread.
struct Window {
    void *window;
    void (*set_label)(void *window, const char *text);
    // Opens a modal panel, and returns when it is closed.
    void (*open_panel)(void *window, const char *text);
    void (*quit)(void *window);
};

// Serves HTTP in the application's loop from now on, until the application terminates. The window
// is copied, and must live that long.
bool network_start(const struct Window *window);
