//! The page that shows the state live.

use std::sync::LazyLock;

/// The content type of [`page`].
pub const PAGE_CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// Returns the whole page as one document: it fetches nothing but the app's own routes.
///
/// It expects these routes on its server:
///
/// - `GET /live`: a WebSocket whose messages are [`Snapshot`](crate::Snapshot)s as JSON, the
///   current one at once and then one after each change (`GET /events` sends the same as
///   server-sent events);
/// - `POST /files/`: a form with files; `GET /files/NAME`: one of them; `DELETE /files/NAME`;
/// - `POST /count`: adds one, returns the snapshot;
/// - `PUT /text`: the body is the new text, returns the snapshot;
/// - `GET /search?q=PATTERN`: server-sent events whose data is a search's state as JSON, until it
///   is done; 400 with a message if the pattern is not valid. Closing the connection cancels the
///   search;
/// - `GET /window.png`: the window's picture, or 404 if there is no window.
pub fn page() -> &'static str {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        include_str!("../page/index.html")
            .replace("/*style.css*/", include_str!("../page/style.css"))
            .replace("/*page.css*/", include_str!("../page/page.css"))
            .replace("/*page.js*/", include_str!("../page/page.js"))
    });
    &PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_are_inside_and_nothing_comes_from_elsewhere() {
        let page = page();
        assert!(!page.contains("/*page.") && !page.contains("/*style."));
        assert!(page.contains("WebSocket") && page.contains("prefers-color-scheme"));
        for elsewhere in ["src=\"http", "href=\"http", "url(http", "@import"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
