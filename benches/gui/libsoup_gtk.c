/* libsoup 3 in a GTK 4 window, on its main loop.
 * Arguments: --http ADDRESS --seconds N --cost MILLISECONDS. */
#include <gtk/gtk.h>
#include <libsoup/soup.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static GtkWidget *label;
static GBytes *hello;
static guint64 requests;
static double cost;
static int seconds = 10;
static GArray *drawn;

static double
milliseconds (clockid_t clock)
{
    struct timespec time;
    clock_gettime (clock, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void
answer (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer data)
{
    char text[64];
    g_snprintf (text, sizeof text, "%" G_GUINT64_FORMAT " requests", ++requests);
    gtk_label_set_text (GTK_LABEL (label), text);
    soup_message_headers_set_content_type (soup_server_message_get_response_headers (message), "text/plain; charset=utf-8", NULL);
    soup_message_body_append_bytes (soup_server_message_get_response_body (message), hello);
    soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
}

static void
draw (GtkDrawingArea *area, cairo_t *cairo, int width, int height, gpointer data)
{
    cairo_rectangle (cairo, drawn->len % 60 / 60.0 * width, 0, 20, height);
    cairo_fill (cairo);
}

static gboolean
tick (GtkWidget *area, GdkFrameClock *clock, gpointer data)
{
    double start = milliseconds (CLOCK_THREAD_CPUTIME_ID);
    while (milliseconds (CLOCK_THREAD_CPUTIME_ID) - start < cost)
        ;
    gtk_widget_queue_draw (area);
    return G_SOURCE_CONTINUE;
}

static void
painted (GdkFrameClock *clock, gpointer data)
{
    double now = milliseconds (CLOCK_MONOTONIC);
    g_array_append_val (drawn, now);
}

static void
realized (GtkWidget *window, gpointer data)
{
    g_signal_connect (gdk_surface_get_frame_clock (gtk_native_get_surface (GTK_NATIVE (window))), "after-paint", G_CALLBACK (painted), NULL);
}

static void
quit (gpointer application)
{
    g_application_quit (application);
}

static void
activate (GtkApplication *application, gpointer data)
{
    GtkWidget *window = gtk_application_window_new (application), *box = gtk_box_new (GTK_ORIENTATION_VERTICAL, 0);
    GtkWidget *area = gtk_drawing_area_new ();
    label = gtk_label_new ("no requests");
    gtk_widget_set_vexpand (area, TRUE);
    gtk_box_append (GTK_BOX (box), label);
    gtk_box_append (GTK_BOX (box), area);
    gtk_drawing_area_set_draw_func (GTK_DRAWING_AREA (area), draw, NULL, NULL);
    gtk_widget_add_tick_callback (area, tick, NULL, NULL);
    gtk_window_set_child (GTK_WINDOW (window), box);
    gtk_window_set_default_size (GTK_WINDOW (window), 400, 300);
    g_signal_connect (window, "realize", G_CALLBACK (realized), NULL);
    gtk_window_present (GTK_WINDOW (window));
    g_timeout_add_once (seconds * 1000, quit, application);
}

static int
compare (const void *one, const void *other)
{
    double difference = *(const double *) one - *(const double *) other;
    return (difference > 0) - (difference < 0);
}

static void
report (void)
{
    double *times = (double *) drawn->data, lost = 0;
    g_autofree double *gaps = g_new0 (double, drawn->len + 1);
    guint count = 0;
    gboolean before = FALSE;
    for (guint place = 0; place < drawn->len; place++) {
        gboolean counts = times[place] >= times[0] + 1500 && times[place] + 1000 <= times[drawn->len - 1];
        if (counts && before)
            gaps[count++] = times[place] - times[place - 1];
        before = counts;
    }
    for (guint place = 0; place < count; place++)
        lost += MAX (round (gaps[place] * 60 / 1000) - 1, 0);
    qsort (gaps, count, sizeof *gaps, compare);
    printf ("{\"frames\":%u,\"lost\":%.0f,\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f}\n", count, lost, gaps[count / 2], gaps[count * 99 / 100], count ? gaps[count - 1] : 0);
}

int
main (int count, char **arguments)
{
    int port = 0;
    for (int place = 1; place + 1 < count; place += 2) {
        if (!strcmp (arguments[place], "--http"))
            port = atoi (strrchr (arguments[place + 1], ':') + 1);
        else if (!strcmp (arguments[place], "--seconds"))
            seconds = atoi (arguments[place + 1]);
        else if (!strcmp (arguments[place], "--cost"))
            cost = atof (arguments[place + 1]);
    }
    hello = g_bytes_new_static ("hello, world", 12);
    drawn = g_array_new (FALSE, FALSE, sizeof (double));
    GtkApplication *application = gtk_application_new (NULL, G_APPLICATION_NON_UNIQUE);
    SoupServer *server = soup_server_new (NULL, NULL);
    GError *error = NULL;
    soup_server_add_handler (server, "/hello", answer, NULL, NULL);
    if (!soup_server_listen_local (server, port, SOUP_SERVER_LISTEN_IPV4_ONLY, &error))
        g_error ("%s", error->message);
    GSList *addresses = soup_server_get_uris (server);
    printf ("http listening on 127.0.0.1:%d\n", g_uri_get_port (addresses->data));
    fflush (stdout);
    g_signal_connect (application, "activate", G_CALLBACK (activate), NULL);
    g_application_run (G_APPLICATION (application), 0, NULL);
    report ();
    return 0;
}
