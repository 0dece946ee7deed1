//! The command line that all the apps share.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::process;
use std::time::Duration;

use lexopt::prelude::*;

/// The exit status for a command line that cannot be parsed; most tools use the same.
const EXIT_USAGE: i32 = 2;

/// The default address of the web server.
const DEFAULT_HTTP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// The options that the user gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The address to serve HTTP on. With port 0 the system chooses one.
    pub http: SocketAddr,
    /// The address to serve the echo protocol on, if any.
    pub echo: Option<SocketAddr>,
    /// When to end, if there is a limit.
    pub seconds: Option<Duration>,
    /// Whether to print a [`Report`](crate::Report) at the end.
    pub report: bool,
    /// Whether to serve HTTPS instead of HTTP, with a certificate generated at the start.
    pub tls: bool,
    /// Whether to answer every request with its method, target and body length.
    pub mirror: bool,
    /// Whether to print the stack of the thread when it does not return to its loop.
    pub watchdog: bool,
}

/// A command line that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Run with these options.
    Run(Options),
    /// Print the help.
    Help,
}

/// A command line that cannot be parsed. The text is for the user, and says how to correct it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ArgsError {
    /// An address that does not parse.
    Address {
        /// The option that it was given to.
        option: &'static str,
        /// What was given.
        given: String,
    },
    /// A number of seconds that does not parse, or is not positive.
    Seconds {
        /// What was given.
        given: String,
    },
    /// An unknown option, a missing value, or a value that is not text.
    Usage(lexopt::Error),
}

impl Options {
    /// Parses the arguments, without the program's own name.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, ArgsError> {
        let mut options = Self::default();
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("http") => options.http = address("--http", parser.value()?)?,
                Long("echo") => options.echo = Some(address("--echo", parser.value()?)?),
                Long("seconds") => options.seconds = Some(seconds(parser.value()?)?),
                Long("report") => options.report = true,
                Long("tls") => options.tls = true,
                Long("mirror") => options.mirror = true,
                Long("watchdog") => options.watchdog = true,
                Short('h') | Long("help") => return Ok(Parsed::Help),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Parsed::Run(options))
    }

    /// Parses this process's arguments. Prints the help and exits, or prints the error and exits
    /// with status 2, so one call is all that a program needs.
    pub fn from_env_or_exit(app: &str, about: &str) -> Self {
        match Self::parse(std::env::args_os().skip(1)) {
            Ok(Parsed::Run(options)) => options,
            Ok(Parsed::Help) => {
                println!("{}", help(app, about));
                process::exit(0)
            }
            Err(error) => {
                eprintln!("{app}: {error}\nTry '{app} --help'.");
                process::exit(EXIT_USAGE)
            }
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            http: DEFAULT_HTTP,
            echo: None,
            seconds: None,
            report: false,
            tls: false,
            mirror: false,
            watchdog: false,
        }
    }
}

fn address(option: &'static str, value: OsString) -> Result<SocketAddr, ArgsError> {
    let given = value.string()?;
    given
        .parse()
        .map_err(|_| ArgsError::Address { option, given })
}

/// GLib counts milliseconds in 32 bits.
const MOST_TIME: Duration = Duration::from_secs(4_000_000);

fn seconds(value: OsString) -> Result<Duration, ArgsError> {
    let given = value.string()?;
    let parsed = given.parse().ok().map(Duration::try_from_secs_f64);
    match parsed {
        Some(Ok(duration)) if !duration.is_zero() && duration <= MOST_TIME => Ok(duration),
        _ => Err(ArgsError::Seconds { given }),
    }
}

fn help(app: &str, about: &str) -> String {
    format!(
        "{about}\n\
         \n\
         Usage: {app} [OPTIONS]\n\
         \n\
         Options:\n\
         \x20 --http ADDR   serve HTTP on ADDR [default: {DEFAULT_HTTP}]; \
         port 0 lets the system choose\n\
         \x20 --echo ADDR   also serve the echo protocol on ADDR\n\
         \x20 --seconds N   exit after N seconds\n\
         \x20 --report      print one line of JSON at the end: requests, frames, gaps, turns\n\
         \x20 --tls         serve HTTPS (HTTP/2 and HTTP/1.1) with a generated certificate\n\
         \x20 --mirror      answer every request with METHOD TARGET BODYLEN, \
         and echo at /websocket\n\
         \x20 --watchdog    print the thread's stack if it is stuck for half a second\n\
         \x20 -h, --help    print this"
    )
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { option, given } => {
                write!(
                    f,
                    "{option}: '{given}' is not an address and port, \
                     such as 127.0.0.1:8080 or [::1]:8080"
                )
            }
            Self::Seconds { given } => {
                write!(
                    f,
                    "--seconds: '{given}' is not a number of seconds above 0, such as 10 or 0.5, \
                     and at most 4,000,000"
                )
            }
            Self::Usage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ArgsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Usage(error) => Some(error),
            _ => None,
        }
    }
}

impl From<lexopt::Error> for ArgsError {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Parsed, String> {
        Options::parse(args.iter().map(OsString::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_given_is_the_defaults() {
        assert_eq!(parse(&[]), Ok(Parsed::Run(Options::default())));
        assert_eq!(Options::default().http.to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn everything_given() {
        let args =
            "--http [::1]:0 --echo=127.0.0.1:7 --seconds 2.5 --report --tls --mirror --watchdog";
        let args: Vec<_> = args.split(' ').collect();
        let expected = Options {
            http: "[::1]:0".parse().unwrap(),
            echo: Some("127.0.0.1:7".parse().unwrap()),
            seconds: Some(Duration::from_millis(2500)),
            report: true,
            tls: true,
            mirror: true,
            watchdog: true,
        };
        assert_eq!(parse(&args), Ok(Parsed::Run(expected)));
    }

    #[test]
    fn help_wins_over_what_follows() {
        assert_eq!(parse(&["--help", "--nonsense"]), Ok(Parsed::Help));
        assert!(help("standalone", "About").contains("--mirror"));
    }

    #[test]
    fn a_bad_address_is_named_with_a_good_one() {
        for given in ["localhost", "127.0.0.1", "1.2.3.4:99999", ""] {
            let said = parse(&["--http", given]).unwrap_err();
            assert!(
                said.starts_with(&format!("--http: '{given}' is not")),
                "{said}"
            );
            assert!(said.contains("127.0.0.1:8080"), "{said}");
        }
        assert!(
            parse(&["--echo", "x"])
                .unwrap_err()
                .starts_with("--echo: 'x'")
        );
    }

    #[test]
    fn seconds_are_a_positive_finite_number() {
        for given in ["0", "-1", "soon", "inf", "nan", "1e300", "1e19", "4000001"] {
            let said = parse(&["--seconds", given]).unwrap_err();
            assert!(said.contains(&format!("'{given}'")), "{said}");
        }
    }

    #[test]
    fn what_is_unknown_or_missing_is_named() {
        assert!(parse(&["--prot"]).unwrap_err().contains("--prot"));
        assert!(parse(&["--http"]).unwrap_err().contains("--http"));
        assert!(parse(&["stray"]).unwrap_err().contains("stray"));
    }
}
