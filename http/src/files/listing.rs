//! The listing of a folder.

use std::fmt::Write;

use super::super::{Html, IntoResponse, Request, Response};

/// The names in a folder, each with whether it is a folder itself.
pub(super) type Names = Vec<(String, bool)>;

pub(super) fn respond(request: &Request, names: &Names) -> Response {
    let title = escape(request.path());
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title></head>\
         <body><h1>{title}</h1><ul>\n"
    );
    if request.path_below() != "/" {
        page.push_str("<li><a href=\"../\">..</a></li>\n");
    }
    for (name, is_folder) in names {
        let slash = if *is_folder { "/" } else { "" };
        writeln!(
            page,
            "<li><a href=\"./{}{slash}\">{}{slash}</a></li>",
            encode(name),
            escape(name)
        )
        .expect("a string takes everything");
    }
    page.push_str("</ul></body></html>\n");
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
