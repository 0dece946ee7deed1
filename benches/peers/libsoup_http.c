/* libsoup 3 on GLib's main loop. Arguments: --http ADDRESS. The file is in ENTWINED_BENCH_FILES,
 * and so is the answer of /json, because libsoup cannot write JSON. */
#include <libsoup/soup.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static GBytes *json, *file;

static void
answer (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer data)
{
    GBytes *body = data;
    const char *type = strcmp (path, "/json") == 0 ? "application/json" : strcmp (path, "/file.bin") == 0 ? "application/octet-stream" : "text/plain; charset=utf-8";
    soup_message_headers_set_content_type (soup_server_message_get_response_headers (message), type, NULL);
    soup_message_body_append_bytes (soup_server_message_get_response_body (message), body);
    soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
}

/* Shared by all answers and never copied, like a memory mapping. */
static GBytes *
load (const char *name)
{
    g_autofree char *path = g_build_filename (g_getenv ("ENTWINED_BENCH_FILES"), name, NULL);
    char *text;
    gsize length;
    if (!g_file_get_contents (path, &text, &length, NULL))
        g_error ("%s cannot be read", path);
    return g_bytes_new_take (text, length);
}

int
main (int count, char **arguments)
{
    const char *port = count > 2 ? strrchr (arguments[2], ':') : NULL;
    SoupServer *server = soup_server_new (NULL, NULL);
    GError *error = NULL;
    json = load ("json");
    file = load ("file.bin");
    soup_server_add_handler (server, "/hello", answer, g_bytes_new_static ("hello, world", 12), NULL);
    soup_server_add_handler (server, "/json", answer, json, NULL);
    soup_server_add_handler (server, "/file.bin", answer, file, NULL);
    if (!soup_server_listen_local (server, port ? atoi (port + 1) : 8080, SOUP_SERVER_LISTEN_IPV4_ONLY, &error))
        g_error ("%s", error->message);
    GSList *addresses = soup_server_get_uris (server);
    printf ("http listening on 127.0.0.1:%d\n", g_uri_get_port (addresses->data));
    fflush (stdout);
    g_main_loop_run (g_main_loop_new (NULL, FALSE));
    return 0;
}
