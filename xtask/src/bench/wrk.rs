//! Load from wrk.

use super::OTHERS;
use crate::{Result, process};

/// wrk's report.
#[derive(Debug, PartialEq)]
pub struct Load {
    pub requests: u64,
    pub requests_per_second: f64,
    /// The latency that 99 of 100 requests did not exceed, and the highest.
    pub p99_milliseconds: f64,
    pub max_milliseconds: f64,
}

pub fn load(url: &str, connections: u32, seconds: u32) -> Result<Load> {
    let report = process::output(
        process::tied("wrk", Some(OTHERS))
            .args([
                "-t1",
                "--latency",
                "--timeout",
                "10s",
                &format!("-c{connections}"),
            ])
            .args([&format!("-d{seconds}s"), url]),
    )?;
    // A server that fails is fast, so its figure must not count.
    if report.contains("Non-2xx") || report.contains("Socket errors") {
        return Err(format!("{url} failed under load:\n{report}").into());
    }
    parse(&report).ok_or_else(|| format!("cannot parse wrk's report:\n{report}").into())
}

fn parse(report: &str) -> Option<Load> {
    let words_of = |text: &str| {
        let line = report.lines().find(|line| line.contains(text))?;
        Some(
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    Some(Load {
        requests: words_of(" requests in ")?.first()?.parse().ok()?,
        requests_per_second: words_of("Requests/sec:")?.get(1)?.parse().ok()?,
        p99_milliseconds: milliseconds(words_of("99%")?.get(1)?)?,
        max_milliseconds: milliseconds(words_of("Latency ")?.get(3)?)?,
    })
}

/// A time as wrk prints it: `472.36us`, `4.03ms`, `1.20s`.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 60e3)];
    units
        .iter()
        .find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::{Load, parse};

    #[test]
    fn a_report_is_read() {
        let report = "\
Running 5s test @ http://127.0.0.1:8080/hello
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   472.36us   89.12us   4.03ms   92.61%
    Req/Sec   135.53k     3.71k  140.20k    76.00%
  Latency Distribution
     50%  460.00us
     99%    1.35ms
  674189 requests in 5.00s, 88.73MB read
Requests/sec: 134812.55
Transfer/sec:     17.74MB
";
        let expected = Load {
            requests: 674_189,
            requests_per_second: 134_812.55,
            p99_milliseconds: 1.35,
            max_milliseconds: 4.03,
        };
        assert_eq!(parse(report), Some(expected));
        assert_eq!(parse("unable to connect"), None);
    }
}
