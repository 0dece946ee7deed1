//! Runs a program, reads its output line by line, and waits for its end.
//!
//! ```text
//! cargo run --example child_process -- ls -l
//! ```

use std::{env, error::Error, time::Duration};

use entwined::{
    Standalone,
    framing::{FramedStream, Lines},
    process::{Command, Io},
};

/// A program that runs for longer is killed.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().ok_or("which program?")?;
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    reactor.block_on(async move {
        let mut process = Command::new(program)
            .args(arguments)
            .stdout(Io::Stream)
            // Dropping `process` ends the program.
            .kill_on_drop(true)
            .spawn(&handle)?;
        let output = process.take_stdout().ok_or("its output is not a stream")?;
        let mut lines = FramedStream::new(output, Lines::new(64 * 1024));
        // Its end may come long after that of its output.
        let end = async {
            let mut count = 0;
            while let Some(line) = lines.next().await {
                count += 1;
                println!("{count}: {}", String::from_utf8_lossy(&line?));
            }
            Ok::<_, Box<dyn Error>>(process.exited().await?)
        };
        println!("it ended: {}", handle.timeout(LIMIT, end).await??);
        Ok(())
    })
}
