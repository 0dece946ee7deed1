//! The page that shows the state live.

use std::sync::LazyLock;

/// The type of [`page`].
pub const PAGE_CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// The whole page in one document: nothing else is fetched but the app's own routes.
///
/// It expects, on the server that it came from:
///
/// - `GET /live`: a WebSocket whose messages are [`Snapshot`](crate::Snapshot)s as JSON, the
///   present one at once and then one after each change (`GET /events` gives the same as
///   server-sent events);
/// - `POST /files/`: a form with files; `GET /files/NAME`: one of them; `DELETE /files/NAME`;
/// - `POST /count`: adds one, answers the snapshot;
/// - `PUT /text`: the body is the new text, answers the snapshot;
/// - `GET /search?q=PATTERN`: server-sent events whose data is a search's state as JSON, until it
///   is done; 400 with a sentence when the pattern is wrong. To close the connection cancels the
///   search;
/// - `GET /window.png`: the window's picture, or 404 where there is no window.
pub fn page() -> &'static str {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        include_str!("../page/index.html")
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
        assert!(!page.contains("/*page."));
        assert!(page.contains("WebSocket") && page.contains("prefers-color-scheme"));
        for elsewhere in ["src=\"http", "href=\"http", "url(http", "@import"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
