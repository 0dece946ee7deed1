//! The properties of a toolkit's window, over a connection of one's own to its X server.
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
//!             handle.stop().expect("the reactor runs");
//!         })
//!         .detach();
//!     Ok(())
//! }
//! ```

use std::{
    collections::HashMap,
    fmt,
    os::fd::{AsFd, OwnedFd},
};

use entwined::{
    Handle,
    reactor::{Direction, Interest, Watched},
};
use raw_window_handle::{HasWindowHandle, RawWindowHandle};
use x11rb::{
    connection::Connection,
    errors::ReplyError,
    protocol::{
        Event,
        xproto::{self, AtomEnum, ChangeWindowAttributesAux, ConnectionExt, EventMask, Property},
    },
    rust_connection::RustConnection,
};

use crate::Error;

/// Bytes of a property that are fetched.
const MOST: u32 = 64 * 1024;

/// Follows the properties of a window: its title, whether it is hidden or fullscreen
/// (`_NET_WM_STATE`), on which desktop it is, and what others have set.
///
/// It has a connection for itself, to the server that `DISPLAY` names, which is the toolkit's
/// unless that was told otherwise. Besides waiting for events, which holds up nobody, it asks the
/// server for what a property has become, and waits for the answer (some 0.1 ms).
pub struct Properties {
    connection: RustConnection,
    socket: Watched<OwnedFd>,
    window: xproto::Window,
    names: HashMap<xproto::Atom, String>,
}

/// A property that was set or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its name, such as `_NET_WM_STATE`.
    pub name: String,
    /// What it is now; none when it was removed. At most 64 KiB of it.
    pub value: Option<Value>,
}

/// What a property can be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Text, of type `STRING` or `UTF8_STRING`.
    Text(String),
    /// Names of atoms, such as `_NET_WM_STATE_FULLSCREEN`.
    Atoms(Vec<String>),
    /// Numbers of 32 bits.
    Numbers(Vec<u32>),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Properties {
    /// Follows this window from now on.
    ///
    /// # Errors
    /// [`Error::OtherSystem`] when the window is not on X11, [`Error::Handle`] when there is none
    /// at present; [`Error::Display`] when there is no second connection to be had, or the window
    /// is of another server.
    pub fn of(handle: &Handle, window: &impl HasWindowHandle) -> Result<Self, Error> {
        let window = match window.window_handle()?.as_raw() {
            RawWindowHandle::Xlib(xlib) => u32::try_from(xlib.window)
                .map_err(|_| Error::OtherSystem("X11: its number is none"))?,
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
        let socket = Watched::new(handle, socket, Interest::READABLE)
            .map_err(|error| Error::display(error.error))?;
        Ok(Properties {
            connection,
            socket,
            window,
            names: HashMap::new(),
        })
    }

    /// The next change. Changes of the same property that come soon after one another may be told
    /// as one.
    ///
    /// # Errors
    /// [`Error::Display`] when the display is gone; it stays so.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            // Before it waits: reading an answer may have taken events from the socket.
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

    fn change(&mut self, atom: xproto::Atom, state: Property) -> Result<Change, Error> {
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
            // It was removed meanwhile, or the window was.
            Ok(_) | Err(ReplyError::X11Error(_)) => return Ok(Change { name, value: None }),
            Err(error) => return Err(Error::display(error)),
        };
        let value = if reply.type_ == u32::from(AtomEnum::ATOM) {
            let atoms: Vec<_> = reply.value32().into_iter().flatten().collect();
            Value::Atoms(
                atoms
                    .into_iter()
                    .map(|atom| self.name(atom))
                    .collect::<Result<_, _>>()?,
            )
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

    /// An atom's name, which never changes.
    fn name(&mut self, atom: xproto::Atom) -> Result<String, Error> {
        if let Some(name) = self.names.get(&atom) {
            return Ok(name.clone());
        }
        let name = match self
            .connection
            .get_atom_name(atom)
            .map_err(Error::display)?
            .reply()
        {
            Ok(reply) => String::from_utf8_lossy(&reply.name).into_owned(),
            Err(ReplyError::X11Error(_)) => format!("atom {atom}"),
            Err(error) => return Err(Error::display(error)),
        };
        self.names.insert(atom, name.clone());
        Ok(name)
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
