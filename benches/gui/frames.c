/* Measures the frames of a GTK 4 program that knows nothing of it: LD_PRELOAD=frames.so PROGRAM.
 *
 * Each window draws every frame. SIGUSR1 begins to measure; SIGUSR2 ends it, and prints the gaps
 * between frames on standard error as one line of JSON. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <glib-unix.h>
#include <gtk/gtk.h>
#include <stdlib.h>
#include <time.h>

static GArray *drawn;

static gboolean
tick (GtkWidget *window, GdkFrameClock *clock, gpointer data)
{
    gtk_widget_queue_draw (window);
    return G_SOURCE_CONTINUE;
}

static void
painted (GdkFrameClock *clock, gpointer data)
{
    struct timespec time;
    if (!drawn)
        return;
    clock_gettime (CLOCK_MONOTONIC, &time);
    double now = time.tv_sec * 1e3 + time.tv_nsec / 1e6;
    g_array_append_val (drawn, now);
}

static gboolean
begin (gpointer data)
{
    drawn = g_array_new (FALSE, FALSE, sizeof (double));
    return G_SOURCE_CONTINUE;
}

static int
compare (const void *a, const void *b)
{
    double difference = *(const double *) a - *(const double *) b;
    return (difference > 0) - (difference < 0);
}

static gboolean
end (gpointer data)
{
    guint count = drawn->len - 1;
    double *at = (double *) (void *) drawn->data;
    guint lost = 0;
    for (guint i = 0; i < count; i++) {
        at[i] = at[i + 1] - at[i];
        int frames = (int) (at[i] * 60 / 1e3 + 0.5);
        lost += frames > 1 ? frames - 1 : 0;
    }
    qsort (at, count, sizeof (double), compare);
    g_printerr ("{\"frames\":%u,\"lost\":%u,\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f}\n", count, lost,
                at[count / 2], at[(guint) (count * 0.99)], at[count - 1]);
    drawn = NULL;
    return G_SOURCE_CONTINUE;
}

void
gtk_window_present (GtkWindow *window)
{
    void (*present) (GtkWindow *) = (void (*) (GtkWindow *)) dlsym (RTLD_NEXT, "gtk_window_present");
    /* Not for its child processes. */
    unsetenv ("LD_PRELOAD");
    present (window);
    GdkSurface *surface = gtk_native_get_surface (GTK_NATIVE (window));
    g_signal_connect (gdk_surface_get_frame_clock (surface), "after-paint", G_CALLBACK (painted), NULL);
    gtk_widget_add_tick_callback (GTK_WIDGET (window), tick, NULL, NULL);
    g_unix_signal_add (SIGUSR1, begin, NULL);
    g_unix_signal_add (SIGUSR2, end, NULL);
}
