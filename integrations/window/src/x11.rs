//! The properties of a toolkit's window, read over a separate connection to its X server.
//!
//! ```no_run
//! use entwined::Handle;
//! use entwined_window::{Error, x11::Properties};
//! use raw_window_handle::HasWindowHandle;
//!
//! fn follow(network: &Handle, window: &impl HasWindowHandle) -> Result<(), Error> {
//!     let mut properties = Properties::of(network, window)?;
//!     let handle = network.clone();
//!     network
//!         .spawn(async move {
//!             while let Ok(change) = properties.next().await {
//!                 println!("{} is now {:?}", change.name, change.value);
//!             }
//!             // The display is gone.
//!             handle.stop();
//!         });
//!     Ok(())
//! }
//! ```

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    os::fd::{AsFd, OwnedFd},
    task::Poll,
};

use entwined::{
    Handle,
    reactor::{Direction, Interest, Registration},
};
use raw_window_handle::{HasWindowHandle, RawWindowHandle};
use x11rb::{
    connection::Connection,
    errors::{ConnectionError, ReplyError},
    protocol::{
        Event,
        xproto::{self, AtomEnum, ChangeWindowAttributesAux, ConnectionExt, EventMask, Property},
    },
    rust_connection::RustConnection,
};

use crate::Error;

/// What fetching a property takes from a task's share: 8 of them in a row take a millisecond.
const CHANGE: u32 = 8;

/// The maximum bytes of a property that are fetched.
const MOST: u32 = 64 * 1024;

/// The maximum atoms of a property whose names are fetched. Each takes the server's time and ours,
/// and any client may set a property of any window.
const MOST_ATOMS: usize = 256;

/// The maximum names of atoms that are kept.
const MOST_NAMES: usize = 4 * 1024;

/// The maximum bytes of a name. The rest is left out: any client may make one of 64 KiB.
const MOST_NAME: usize = 1024;

/// The maximum bytes that the names of a property's atoms have on their way, and how many names are
/// asked for at a time.
const MOST_BYTES: usize = 64 * 1024;
const AT_ONCE: usize = 32;

/// Follows the properties of a window: its title, whether it is hidden or fullscreen
/// (`_NET_WM_STATE`), its desktop, and properties set by other clients.
///
/// It has its own connection, to the server that `DISPLAY` names, which is the toolkit's unless the
/// toolkit was told otherwise. Waiting for events blocks nothing. When a property changes, it asks
/// the server for the new value and blocks for the answer (some 0.1 ms).
pub struct Properties {
    connection: RustConnection,
    socket: Registration<OwnedFd>,
    window: xproto::Window,
    names: HashMap<xproto::Atom, String>,
}

/// A property that was set or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its name, such as `_NET_WM_STATE`; 1 KiB at most.
    pub name: String,
    /// The new value, 64 KiB at most; `None` if the property was removed.
    pub value: Option<Value>,
}

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Text, of type `STRING` or `UTF8_STRING`.
    Text(String),
    /// Names of atoms, such as `_NET_WM_STATE_FULLSCREEN`: 256 at most, of about 64 KiB together.
    Atoms(Vec<String>),
    /// 32-bit numbers, also those of atoms that are more than that.
    Numbers(Vec<u32>),
    /// Any other type or format.
    Bytes(Vec<u8>),
}

impl Properties {
    /// Follows this window from now on.
    ///
    /// # Errors
    /// Returns [`Error::OtherSystem`] if the window is not on X11, [`Error::Handle`] if it has no
    /// handle right now, and [`Error::Display`] if the second connection fails or the window is on
    /// another server.
    pub fn of(handle: &Handle, window: &impl HasWindowHandle) -> Result<Self, Error> {
        let window = match window.window_handle()?.as_raw() {
            RawWindowHandle::Xlib(xlib) => u32::try_from(xlib.window)
                .map_err(|_| Error::OtherSystem("X11: its id is not valid"))?,
            RawWindowHandle::Xcb(xcb) => xcb.window.get(),
            _ => return Err(Error::OtherSystem("X11")),
        };
        let (connection, _) = RustConnection::connect(None).map_err(Error::display)?;
        let attributes = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        let changing = connection
            .change_window_attributes(window, &attributes)
            .map_err(Error::display)?;
        changing.check().map_err(Error::display)?;
        let socket = connection
            .stream()
            .as_fd()
            .try_clone_to_owned()
            .map_err(Error::display)?;
        let socket = Registration::new(handle, socket, Interest::READABLE)
            .map_err(|error| Error::display(error.error))?;
        Ok(Properties {
            connection,
            socket,
            window,
            names: HashMap::new(),
        })
    }

    /// Returns the next change. Quick successive changes of the same property may be reported as
    /// one.
    ///
    /// # Errors
    /// Returns [`Error::Display`] if the display is gone; later calls fail as well.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            self.give_way().await;
            // Check before waiting: reading a reply may have taken events from the socket.
            while let Some(event) = self.connection.poll_for_event().map_err(Error::display)? {
                if let Event::PropertyNotify(event) = event
                    && event.window == self.window
                {
                    return self.change(event.atom, event.state);
                }
            }
            self.socket.clear(Direction::Read);
            self.socket.ready(Direction::Read).await;
        }
    }

    /// Lets others have a turn if this task has used up its share: a client that sets properties
    /// without end does not hold the thread.
    async fn give_way(&self) {
        let handle = self.socket.handle();
        poll_fn(|cx| match handle.spend(0) {
            true => Poll::Ready(()),
            false => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }

    fn change(&mut self, atom: xproto::Atom, state: Property) -> Result<Change, Error> {
        // Whether this was too much is asked before the next.
        let _ = self.socket.handle().spend(CHANGE);
        let name = self.name(atom)?;
        if state == Property::DELETE {
            return Ok(Change { name, value: None });
        }
        let any = AtomEnum::ANY;
        let asking = self
            .connection
            .get_property(false, self.window, atom, any, 0, MOST / 4)
            .map_err(Error::display)?;
        let reply = match asking.reply() {
            Ok(reply) if reply.type_ != x11rb::NONE => reply,
            // The property was removed meanwhile, or the window was.
            Ok(_) | Err(ReplyError::X11Error(_)) => return Ok(Change { name, value: None }),
            Err(error) => return Err(Error::display(error)),
        };
        let atoms: Option<Vec<_>> = (reply.type_ == u32::from(AtomEnum::ATOM))
            .then(|| reply.value32().into_iter().flatten().collect())
            .filter(|atoms: &Vec<_>| atoms.len() <= MOST_ATOMS);
        let names = match atoms {
            Some(atoms) => self.names(&atoms)?,
            None => None,
        };
        let value = if let Some(names) = names {
            Value::Atoms(names)
        } else if reply.format == 8
            && matches!(self.name(reply.type_)?.as_str(), "STRING" | "UTF8_STRING")
        {
            Value::Text(String::from_utf8_lossy(&reply.value).into_owned())
        } else if reply.format == 32 {
            Value::Numbers(reply.value32().into_iter().flatten().collect())
        } else {
            Value::Bytes(reply.value)
        };
        Ok(Change {
            name,
            value: Some(value),
        })
    }

    fn name(&mut self, atom: xproto::Atom) -> Result<String, Error> {
        let mut names = self.names(&[atom])?.unwrap_or_default();
        Ok(names.pop().unwrap_or_default())
    }

    /// Returns the names of atoms, which never change, or `None` if they are too long. Many that
    /// are not known are asked for at once, so that they take few round trips.
    fn names(&mut self, atoms: &[xproto::Atom]) -> Result<Option<Vec<String>>, Error> {
        if self.names.len() + atoms.len() > MOST_NAMES {
            self.names.clear();
        }
        let known = &self.names;
        let unknown = atoms.iter().filter(|atom| !known.contains_key(atom));
        let unknown: Vec<_> = unknown.copied().collect();
        let mut bytes = 0;
        for some in unknown.chunks(AT_ONCE) {
            if bytes > MOST_BYTES {
                return Ok(None);
            }
            let asking = some
                .iter()
                .map(|&atom| Ok((atom, self.connection.get_atom_name(atom)?)));
            let asked: Vec<_> = asking
                .collect::<Result<_, ConnectionError>>()
                .map_err(Error::display)?;
            for (atom, name) in asked {
                let name = match name.reply() {
                    Ok(reply) => {
                        bytes += reply.name.len();
                        let start = &reply.name[..reply.name.len().min(MOST_NAME)];
                        String::from_utf8_lossy(start).into_owned()
                    }
                    Err(ReplyError::X11Error(_)) => format!("atom {atom}"),
                    Err(error) => return Err(Error::display(error)),
                };
                self.names.insert(atom, name);
            }
        }
        let name = |atom| self.names.get(atom).cloned().unwrap_or_default();
        Ok(Some(atoms.iter().map(name).collect()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
