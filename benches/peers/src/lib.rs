//! What the comparison servers share: their one option, and the line that tells where they listen.
//!
//! Each binary of this package is the shortest honest program of its kind that answers `/hello`, so that
//! `cargo xtask bench http` can put Entwined beside it in the same run.

use std::error::Error;
use std::net::SocketAddr;

/// What a server's `main` returns.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Reads `--http ADDR` from the command line; `127.0.0.1:8080` if it is absent. Port 0 asks for a free port.
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
        address = value.parse().map_err(|error| format!("--http {value:?}: {error}"))?;
    }
    Ok(address)
}

/// Tells the harness, on standard output, which address was bound.
pub fn announce(address: SocketAddr) {
    println!("http listening on {address}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<SocketAddr, String> {
        address(arguments.iter().map(|argument| argument.to_string())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_last_address_wins_and_there_is_a_default() {
        assert_eq!(parse(&[]), Ok(([127, 0, 0, 1], 8080).into()));
        assert_eq!(parse(&["--http", "127.0.0.1:1", "--http", "[::1]:0"]), Ok("[::1]:0".parse().unwrap()));
    }

    #[test]
    fn a_bad_option_is_named() {
        assert!(parse(&["--https", "x"]).unwrap_err().contains("--https"));
        assert!(parse(&["--http", "nowhere"]).unwrap_err().contains("nowhere"));
        assert!(parse(&["--http"]).unwrap_err().contains("needs an address"));
    }
}
