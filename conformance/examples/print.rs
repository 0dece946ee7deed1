//! Prints the table of behaviours and backends from a directory of results. Without an argument, it
//! prints the list of the suite's tests.

use std::{env, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        for entry in entwined_conformance::list() {
            println!("{:>2}  {}", entry.number, entry.name);
        }
        return ExitCode::SUCCESS;
    };
    match entwined_conformance::table_of(&directory) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!(
                "cannot read the results in {}: {error}",
                directory.display()
            );
            ExitCode::FAILURE
        }
    }
}
