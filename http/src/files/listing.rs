//! The listing of a folder.

use std::fmt::Write;

use super::super::{Html, IntoResponse, Response};

/// The names in a folder, each with whether it is a folder itself.
pub(super) type Names = Vec<(String, bool)>;

/// The most bytes of a listing, approximately.
const MAX_PAGE: usize = 2 * 1024 * 1024;

/// Writes the page. This takes milliseconds if there are thousands of names, so it is done on a
/// thread.
pub(super) fn page(path: &str, is_top: bool, names: &Names, mut is_whole: bool) -> String {
    let title = escape(path);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title></head>\
         <body><h1>{title}</h1><ul>\n"
    );
    if !is_top {
        page.push_str("<li><a href=\"../\">..</a></li>\n");
    }
    for (name, is_folder) in names {
        if page.len() > MAX_PAGE {
            is_whole = false;
            break;
        }
        let slash = if *is_folder { "/" } else { "" };
        writeln!(
            page,
            "<li><a href=\"./{}{slash}\">{}{slash}</a></li>",
            encode(name),
            escape(name)
        )
        .expect("a string takes everything");
    }
    page.push_str("</ul>");
    if !is_whole {
        page.push_str("<p>There are more.</p>");
    }
    page.push_str("</body></html>\n");
    page
}

pub(super) fn respond(page: String) -> Response {
    Html(page).into_response()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Encodes a name as a path segment: RFC 3986, 3.3.
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}
