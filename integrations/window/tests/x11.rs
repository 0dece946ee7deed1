//! The properties of a window, over a separate connection. Needs an X server (`DISPLAY`).
#![cfg(feature = "x11")]

use std::{
    cell::{Cell, RefCell},
    num::NonZero,
    rc::Rc,
    time::Duration,
};

use entwined::Standalone;
use entwined_window::{
    Error,
    x11::{Properties, Value},
};
use raw_window_handle::{
    HandleError, HasWindowHandle, RawWindowHandle, WaylandWindowHandle, WindowHandle,
    XcbWindowHandle,
};
use x11rb::{
    connection::Connection,
    protocol::xproto::{AtomEnum, ConnectionExt as _, CreateWindowAux, PropMode, WindowClass},
    rust_connection::RustConnection,
    wrapper::ConnectionExt as _,
};

/// What a toolkit has: a connection, and a window on it.
struct Toolkit {
    connection: RustConnection,
    window: u32,
}

impl Toolkit {
    fn new() -> Self {
        let (connection, screen) =
            RustConnection::connect(None).expect("an X server; DISPLAY says where");
        let root = connection.setup().roots[screen].root;
        let window = connection.generate_id().expect("a number");
        let class = WindowClass::INPUT_OUTPUT;
        let creating = connection.create_window(
            0,
            window,
            root,
            0,
            0,
            10,
            10,
            0,
            class,
            0,
            &CreateWindowAux::new(),
        );
        creating.expect("a connection").check().expect("a window");
        Toolkit { connection, window }
    }

    fn atom(&self, name: &str) -> u32 {
        self.connection
            .intern_atom(false, name.as_bytes())
            .expect("a connection")
            .reply()
            .expect("an atom")
            .atom
    }

    fn set_title(&self, title: &str) {
        let (mode, name, kind) = (PropMode::REPLACE, AtomEnum::WM_NAME, AtomEnum::STRING);
        let setting =
            self.connection
                .change_property8(mode, self.window, name, kind, title.as_bytes());
        setting.expect("a connection").check().expect("it is set");
    }
}

impl HasWindowHandle for Toolkit {
    fn window_handle(&self) -> Result<WindowHandle<'_>, HandleError> {
        let raw = RawWindowHandle::Xcb(XcbWindowHandle::new(
            NonZero::new(self.window).expect("a number"),
        ));
        // SAFETY: an X11 window has no pointer, only a number.
        Ok(unsafe { WindowHandle::borrow_raw(raw) })
    }
}

#[test]
fn what_is_set_and_removed_is_told_with_its_name_and_value() {
    let toolkit = Rc::new(Toolkit::new());
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let mut properties = Properties::of(&handle, &*toolkit).expect("a guest");
    let seen = Rc::new(RefCell::new(Vec::new()));
    handle.clone().spawn({
        let (seen, toolkit) = (seen.clone(), toolkit.clone());
        async move {
            toolkit.set_title("first");
            let mut next = async || properties.next().await.expect("a change");
            let change = next().await;
            seen.borrow_mut().push(change);
            // One change arrives while it sleeps.
            let (state, full) = (
                toolkit.atom("_NET_WM_STATE"),
                toolkit.atom("_NET_WM_STATE_FULLSCREEN"),
            );
            let window = toolkit.window;
            let mode = PropMode::REPLACE;
            let atoms =
                toolkit
                    .connection
                    .change_property32(mode, window, state, AtomEnum::ATOM, &[full]);
            atoms.expect("a connection").check().expect("it is set");
            let change = next().await;
            seen.borrow_mut().push(change);
            let numbers = toolkit.atom("_NET_WM_DESKTOP");
            let set = toolkit.connection.change_property32(
                mode,
                window,
                numbers,
                AtomEnum::CARDINAL,
                &[7],
            );
            set.expect("a connection").check().expect("it is set");
            let change = next().await;
            seen.borrow_mut().push(change);
            let removing = toolkit.connection.delete_property(window, numbers);
            removing
                .expect("a connection")
                .check()
                .expect("it is removed");
            let change = next().await;
            seen.borrow_mut().push(change);
            handle.stop();
        }
    });
    reactor.run().expect("a run");
    let seen: Vec<_> = seen
        .take()
        .into_iter()
        .map(|change| (change.name, change.value))
        .collect();
    let expected = [
        ("WM_NAME", Some(Value::Text("first".to_owned()))),
        (
            "_NET_WM_STATE",
            Some(Value::Atoms(vec!["_NET_WM_STATE_FULLSCREEN".to_owned()])),
        ),
        ("_NET_WM_DESKTOP", Some(Value::Numbers(vec![7]))),
        ("_NET_WM_DESKTOP", None),
    ];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn it_waits_without_holding_the_thread_and_misses_nothing_that_came_meanwhile() {
    let toolkit = Rc::new(Toolkit::new());
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let mut properties = Properties::of(&handle, &*toolkit).expect("a guest");
    let ticks = Rc::new(RefCell::new(0));
    let ticking = handle.call_every(Duration::from_millis(1), {
        let (ticks, toolkit) = (ticks.clone(), toolkit.clone());
        move |_| {
            *ticks.borrow_mut() += 1;
            if *ticks.borrow() <= 50 {
                toolkit.set_title(&ticks.borrow().to_string());
            }
        }
    });
    handle.clone().spawn(async move {
        loop {
            let change = properties.next().await.expect("a change");
            if change.value == Some(Value::Text("50".to_owned())) {
                break;
            }
        }
        ticking.cancel();
        handle.stop();
    });
    reactor.run().expect("a run");
    assert!(*ticks.borrow() >= 50);
}

#[test]
fn a_window_of_another_system_and_one_that_is_not_there_are_refused() {
    struct Other(RawWindowHandle);
    impl HasWindowHandle for Other {
        fn window_handle(&self) -> Result<WindowHandle<'_>, HandleError> {
            // SAFETY: the pointer is not dereferenced; and an X11 handle has only a number.
            Ok(unsafe { WindowHandle::borrow_raw(self.0) })
        }
    }
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let wayland = RawWindowHandle::Wayland(WaylandWindowHandle::new(std::ptr::NonNull::dangling()));
    assert!(matches!(
        Properties::of(&handle, &Other(wayland)),
        Err(Error::OtherSystem("X11"))
    ));
    let missing = RawWindowHandle::Xcb(XcbWindowHandle::new(
        NonZero::new(0x7ff_ffff).expect("a number"),
    ));
    let error = Properties::of(&handle, &Other(missing)).expect_err("there is no such window");
    assert!(
        error
            .to_string()
            .starts_with("the display cannot be reached"),
        "{error}"
    );
}

/// Any client may set a property of any window.
#[test]
fn a_property_of_thousands_of_atoms_does_not_hold_the_thread_for_their_names() {
    let toolkit = Toolkit::new();
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let mut properties = Properties::of(&handle, &toolkit).expect("a guest");
    let asking: Vec<_> = (0..16_000)
        .map(|number| {
            let name = format!("ENTWINED_TEST_{number}");
            let asking = toolkit.connection.intern_atom(false, name.as_bytes());
            asking.expect("a connection")
        })
        .collect();
    let atoms: Vec<u32> = asking
        .into_iter()
        .map(|asking| asking.reply().expect("an atom").atom)
        .collect();
    let state = toolkit.atom("_NET_WM_STATE");
    let values = reactor.block_on(async move {
        let mut values = Vec::new();
        for atoms in [&atoms[..200], &atoms] {
            let (mode, kind) = (PropMode::REPLACE, AtomEnum::ATOM);
            let (connection, window) = (&toolkit.connection, toolkit.window);
            let set = connection.change_property32(mode, window, state, kind, atoms);
            set.expect("a connection").check().expect("it is set");
            values.push(properties.next().await.expect("a change").value);
        }
        Ok::<_, entwined::reactor::RunError>(values)
    });
    let values = values.expect("a run without a panic");
    let [Some(Value::Atoms(names)), Some(Value::Numbers(numbers))] = &values[..] else {
        panic!("{values:?}");
    };
    assert_eq!((names.len(), numbers.len()), (200, 16_000));
    assert_eq!(names[199], "ENTWINED_TEST_199");
}

/// A client that sets properties without end had the thread for itself.
#[test]
fn many_changes_do_not_hold_a_turn() {
    const MANY: u32 = 500;
    let toolkit = Toolkit::new();
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let mut properties = Properties::of(&handle, &toolkit).expect("a guest");
    for number in 0..MANY {
        toolkit.set_title(&number.to_string());
    }
    let (count, last, most) = <(Rc<Cell<u32>>, Cell<u32>, Rc<Cell<u32>>)>::default();
    let _hook = handle.on_turn({
        let (count, most) = (count.clone(), most.clone());
        move || most.set(most.get().max(count.get() - last.replace(count.get())))
    });
    let counted = count.clone();
    let main = async move {
        while counted.get() < MANY {
            properties.next().await?;
            counted.set(counted.get() + 1);
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    reactor.block_on(main).expect("a run");
    assert!(most.get() <= 16, "{} changes in a turn", most.get());
}

/// A name may have 64 KiB.
#[test]
fn long_names_of_atoms_take_neither_time_nor_memory() {
    const MANY: usize = 250;
    let toolkit = Toolkit::new();
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let mut properties = Properties::of(&handle, &toolkit).expect("a guest");
    let atoms: Vec<u32> = (0..MANY)
        .map(|number| {
            toolkit.atom(&format!(
                "ENTWINED_TEST_LONG_{number}_{}",
                "x".repeat(60_000)
            ))
        })
        .collect();
    let (mode, state) = (PropMode::REPLACE, toolkit.atom("_NET_WM_STATE"));
    let (connection, window) = (&toolkit.connection, toolkit.window);
    let kind = AtomEnum::ATOM;
    let set = connection.change_property32(mode, window, state, kind, &atoms);
    set.expect("a connection").check().expect("it is set");
    let value = reactor.block_on(async move {
        let change = properties.next().await.expect("a change");
        Ok::<_, entwined::reactor::RunError>(change.value)
    });
    let value = value.expect("a run without a panic");
    assert_eq!(value, Some(Value::Numbers(atoms)));
}
