//! Opens the page in the user's browser.

use std::io;
use std::process::{Child, Command, Stdio};

/// The desktop's own command to open an address.
const OPENER: &str = if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};

/// Opens addresses. Keeps the last helper process, so that it can be reaped.
#[derive(Debug, Default)]
pub(crate) struct Browser {
    last: Option<Child>,
}

impl Browser {
    pub(crate) fn open(&mut self, address: &str) -> io::Result<()> {
        self.reap();
        let child = Command::new(OPENER)
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.last = Some(child);
        Ok(())
    }

    /// Never waits: on some desktops the helper runs as long as the browser.
    fn reap(&mut self) {
        if let Some(mut child) = self.last.take() {
            let _ = child.try_wait();
        }
    }
}
