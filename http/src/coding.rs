//! Content codings that a client accepts (RFC 9110, 12.5.3).

use crate::{HeaderMap, header::ACCEPT_ENCODING};

/// A content coding that a client may accept: RFC 9110, 12.5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Gzip,
}

impl Coding {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }
}

/// Returns the codings that a client accepts, best first.
pub(crate) fn accepted(headers: &HeaderMap) -> Vec<Coding> {
    let (mut brotli, mut gzip, mut any, mut plain) = (None, None, None, None);
    let values = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for entry in values.flat_map(|value| value.split(',')) {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let known = if is("br") {
            &mut brotli
        } else if is("gzip") || is("x-gzip") {
            &mut gzip
        } else if is("*") {
            &mut any
        } else if is("identity") {
            &mut plain
        } else {
            continue;
        };
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        *known = Some(weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0)));
    }
    // What is not coded is accepted without being listed; if it is, it may be what is preferred.
    let plain = plain.unwrap_or(0.0_f32);
    let weight = |own: Option<f32>| own.or(any).unwrap_or(0.0);
    let mut all = vec![
        (weight(brotli), Coding::Brotli),
        (weight(gzip), Coding::Gzip),
    ];
    all.retain(|(weight, _)| *weight > 0.0 && *weight >= plain);
    all.sort_by(|one, other| other.0.total_cmp(&one.0));
    all.into_iter().map(|(_, coding)| coding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Vec<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, value.parse().expect("a value"));
        accepted(&headers)
    }

    #[test]
    fn clients_get_what_they_take() {
        use Coding::{Brotli, Gzip};
        assert_eq!(of("gzip, deflate, br, zstd"), [Brotli, Gzip]);
        assert_eq!(of("gzip"), [Gzip]);
        assert_eq!(of("br;q=0.5, gzip;q=0.8"), [Gzip, Brotli]);
        assert_eq!(of("br;q=0, *"), [Gzip]);
        assert_eq!(of("*;q=0"), []);
        assert_eq!(of("identity"), []);
        assert_eq!(of("identity, gzip;q=0.5, br"), [Brotli]);
        assert_eq!(of("identity;q=0.5, *;q=0.1"), []);
        assert_eq!(of("identity;q=0, gzip;q=0.1"), [Gzip]);
        assert_eq!(of("GZIP;q=x"), []);
    }
}
