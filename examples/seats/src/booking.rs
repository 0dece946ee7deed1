//! Seats in SQLite. Each change is one transaction, which has the lock for writing from its start:
//! no two of them overlap, in this process or in another one that uses the same file.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use entwined::deferred::{Deferred, Interrupted};
use entwined_http::{self as http, IntoResponse, Response, StatusCode};
use entwined_rusqlite::{
    ConnectionPool, Error,
    rusqlite::{self, ErrorCode, OptionalExtension, Transaction},
};
use serde::{Deserialize, Serialize};

/// A seat is free, held until an instant, or sold. `token` is the customer's secret; it stays when
/// the seat is sold, so that a customer who got no answer can confirm again.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS flight (
        id INTEGER PRIMARY KEY, origin TEXT NOT NULL, destination TEXT NOT NULL, seats INTEGER);
    CREATE TABLE IF NOT EXISTS seat (
        flight INTEGER NOT NULL REFERENCES flight, number INTEGER NOT NULL,
        token TEXT UNIQUE, customer TEXT, until INTEGER, sold INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (flight, number)) WITHOUT ROWID;
    INSERT INTO flight SELECT * FROM (VALUES
        (1, 'BER', 'CDG', 60), (2, 'BER', 'LHR', 60), (3, 'BER', 'NRT', 60))
        WHERE NOT EXISTS (SELECT * FROM flight);
    WITH RECURSIVE place(flight, number, seats) AS (
        SELECT id, 1, seats FROM flight
        UNION ALL SELECT flight, number + 1, seats FROM place WHERE number < seats)
        INSERT OR IGNORE INTO seat (flight, number) SELECT flight, number FROM place;";

/// How long a customer has to decide, and the most that one may ask for.
pub const HOLD: Duration = Duration::from_secs(120);

/// The same in milliseconds. A hold that ends later was made before a clock was set back, and would
/// keep everybody else away for as long as it was set back by.
const MOST: i64 = HOLD.as_millis() as i64;

#[derive(Serialize)]
pub struct Flight {
    id: u32,
    origin: String,
    destination: String,
    free: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Free,
    Held,
    Sold,
}

/// A seat as everybody may see it.
#[derive(Clone, Debug, Serialize)]
pub struct Seat {
    pub flight: u32,
    pub number: u32,
    pub state: State,
}

#[derive(Deserialize)]
pub struct Wish {
    customer: String,
    /// How long to hold the seat, in seconds.
    seconds: Option<f64>,
}

#[derive(Serialize)]
pub struct Hold {
    pub token: String,
    /// When it ends, in milliseconds since 1970.
    pub until: i64,
}

/// Why a customer does not get what was asked for.
#[derive(Debug)]
pub enum Refusal {
    Taken,
    NoSuchSeat,
    NoSuchHold,
    Database(Error),
}

/// Creates what is missing: the tables, and flights if there are none.
pub fn prepare(database: &ConnectionPool) -> Deferred<(), Error> {
    database.run_interaction(|transaction| Ok(transaction.execute_batch(SCHEMA)?))
}

pub fn flights(database: &ConnectionPool) -> Deferred<Vec<Flight>, Error> {
    let sql = "
        SELECT id, origin, destination, (SELECT count(*) FROM seat
            WHERE flight = id AND NOT sold AND ifnull(until, 0) NOT BETWEEN ?1 + 1 AND ?1 + ?2)
        FROM flight ORDER BY id";
    database.run_query(sql, [now(), MOST], |row| {
        Ok(Flight {
            id: row.get(0)?,
            origin: row.get(1)?,
            destination: row.get(2)?,
            free: row.get(3)?,
        })
    })
}

pub fn seats(database: &ConnectionPool, flight: u32) -> Deferred<Vec<Seat>, Error> {
    let sql = "
        SELECT number, sold, ifnull(until, 0) BETWEEN ?2 + 1 AND ?2 + ?3 FROM seat
        WHERE flight = ?1 ORDER BY number";
    database.run_query(sql, (flight, now(), MOST), move |row| {
        Ok(Seat {
            flight,
            number: row.get(0)?,
            state: match (row.get(1)?, row.get(2)?) {
                (true, _) => State::Sold,
                (false, true) => State::Held,
                (false, false) => State::Free,
            },
        })
    })
}

/// Holds a seat for a customer. Nobody else gets it before the hold ends.
pub fn hold(
    database: &ConnectionPool,
    (flight, number): (u32, u32),
    wish: Wish,
) -> Deferred<Hold, Refusal> {
    let wished = Duration::try_from_secs_f64(wish.seconds.unwrap_or(f64::MAX)).unwrap_or(HOLD);
    database.run_interaction(move |transaction| {
        // The time of the transaction, not of the request: it may have waited for the lock.
        let now = now();
        let until = now + wished.min(HOLD).as_millis() as i64;
        let sql = "
            UPDATE seat SET token = lower(hex(randomblob(16))), customer = ?3, until = ?4
            WHERE flight = ?1 AND number = ?2 AND NOT sold
                AND ifnull(until, 0) NOT BETWEEN ?5 + 1 AND ?5 + ?6
            RETURNING token";
        let mut statement = transaction.prepare_cached(sql)?;
        let parameters = (flight, number, wish.customer, until, now, MOST);
        let token = statement
            .query_row(parameters, |row| row.get(0))
            .optional()?;
        match token {
            Some(token) => Ok(Hold { token, until }),
            None => Err(missing(transaction, flight, number)?),
        }
    })
}

fn missing(transaction: &Transaction, flight: u32, number: u32) -> Result<Refusal, Error> {
    let sql = "SELECT count(*) FROM seat WHERE flight = ? AND number = ?";
    let count: u32 = transaction.query_row(sql, [flight, number], |row| row.get(0))?;
    Ok(match count {
        0 => Refusal::NoSuchSeat,
        _ => Refusal::Taken,
    })
}

/// Sells a seat that is held. To confirm again what is sold changes nothing and succeeds.
pub fn confirm(database: &ConnectionPool, token: String) -> Deferred<Seat, Refusal> {
    let sql = "
        UPDATE seat SET sold = 1, until = NULL WHERE token = ?1 AND (sold OR until > ?2)
        RETURNING flight, number";
    change(database, sql, token, State::Sold)
}

/// Gives a seat back, whether it is held or sold.
pub fn cancel(database: &ConnectionPool, token: String) -> Deferred<Seat, Refusal> {
    let sql = "
        UPDATE seat SET token = NULL, customer = NULL, until = NULL, sold = 0
        WHERE token = ?1 AND (sold OR until > ?2) RETURNING flight, number";
    change(database, sql, token, State::Free)
}

fn change(
    database: &ConnectionPool,
    sql: &'static str,
    token: String,
    state: State,
) -> Deferred<Seat, Refusal> {
    database.run_interaction(move |transaction| {
        let mut statement = transaction.prepare_cached(sql)?;
        let seat = statement.query_row((token, now()), |row| {
            Ok(Seat {
                flight: row.get(0)?,
                number: row.get(1)?,
                state,
            })
        });
        seat.optional()?.ok_or(Refusal::NoSuchHold)
    })
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| time.as_millis() as i64)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Taken => f.write_str("the seat is taken"),
            Refusal::NoSuchSeat => f.write_str("there is no such seat"),
            Refusal::NoSuchHold => f.write_str("there is no such hold, or its time is over"),
            Refusal::Database(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Database(error)
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Refusal::Database(error.into())
    }
}

impl From<Interrupted> for Refusal {
    fn from(why: Interrupted) -> Self {
        Refusal::Database(why.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Refusal::Taken => StatusCode::CONFLICT,
            Refusal::NoSuchSeat => StatusCode::NOT_FOUND,
            Refusal::NoSuchHold => StatusCode::GONE,
            Refusal::Database(Error::Full) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Database(Error::Sqlite(ref error))
                if error.sqlite_error_code() == Some(ErrorCode::DiskFull) =>
            {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Refusal::Database(error) => return http::Error::internal(error).into_response(),
        };
        http::Error::new(status, self.to_string()).into_response()
    }
}
