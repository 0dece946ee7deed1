//! What the comparison servers share: their one option, and the line that reports their address.
//!
//! Each binary of this package is the shortest fair program of its kind that answers `/hello`, so
//! that `cargo xtask bench http` can compare Entwined with it in the same run; for `cargo xtask
//! bench web` some answer more.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

/// What a server's `main` returns.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Reads `--http ADDR` from the command line; `127.0.0.1:8080` if it is absent. Port 0 means any
/// free port.
pub fn address_from_command_line() -> Result<SocketAddr, Box<dyn Error>> {
    address(std::env::args().skip(1))
}

fn address(mut arguments: impl Iterator<Item = String>) -> Result<SocketAddr, Box<dyn Error>> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 8080));
    while let Some(argument) = arguments.next() {
        if argument != "--http" {
            return Err(format!("unknown option {argument:?}; the only one is --http ADDR").into());
        }
        let value = arguments.next().ok_or("--http needs an address")?;
        address = value
            .parse()
            .map_err(|error| format!("--http {value:?}: {error}"))?;
    }
    Ok(address)
}

/// Reports the bound address to the harness, on standard output.
pub fn announce(address: SocketAddr) {
    println!("http listening on {address}");
}

/// The data that `/json` returns: about 10 KiB when serialised, which is done for each request.
#[derive(Serialize)]
pub struct Record {
    id: u32,
    name: String,
    place: [f64; 2],
    tags: [&'static str; 3],
}

/// Returns the records.
pub fn records() -> Vec<Record> {
    let record = |id: u32| Record {
        id,
        name: format!("lighthouse number {id}"),
        place: [f64::from(id) * 0.25 + 50.0, -f64::from(id) * 0.125],
        tags: ["stone", "white", "two storeys"],
    };
    (0..102).map(record).collect()
}

/// Returns the folder that contains the file, from `ENTWINED_BENCH_FILES`.
pub fn files() -> Result<PathBuf, Box<dyn Error>> {
    Ok(std::env::var_os("ENTWINED_BENCH_FILES")
        .ok_or("ENTWINED_BENCH_FILES says where the file is")?
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<SocketAddr, String> {
        address(arguments.iter().map(|argument| argument.to_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_last_address_wins_and_there_is_a_default() {
        assert_eq!(parse(&[]), Ok(([127, 0, 0, 1], 8080).into()));
        assert_eq!(
            parse(&["--http", "127.0.0.1:1", "--http", "[::1]:0"]),
            Ok("[::1]:0".parse().unwrap())
        );
    }

    #[test]
    fn the_records_are_ten_kibibytes() {
        let length = serde_json::to_string(&records()).unwrap().len();
        assert!((9_700..10_700).contains(&length), "{length}");
    }

    #[test]
    fn a_bad_option_is_named() {
        assert!(parse(&["--https", "x"]).unwrap_err().contains("--https"));
        assert!(
            parse(&["--http", "nowhere"])
                .unwrap_err()
                .contains("nowhere")
        );
        assert!(parse(&["--http"]).unwrap_err().contains("needs an address"));
    }
}
