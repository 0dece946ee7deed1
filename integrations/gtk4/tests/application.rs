//! The reactor in GTK applications. GTK lives on one thread, so there is one test. It needs a
//! display (for example `Xvfb`).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use entwined::{
    Handle,
    reactor::{LifeError, Phase},
};
use gtk4::{
    Application, ApplicationWindow, FileChooserAction, FileChooserNative, Label, PopoverMenu,
    Window, gdk, gio,
    glib::{self, ControlFlow, MainLoop, Priority},
    prelude::*,
};

#[test]
fn applications() {
    gtk4::init().expect("these tests need a display: start Xvfb, set DISPLAY and run them again");
    let tests: [(&str, fn()); 10] = [
        (
            "begins with the application and ends with it in order",
            begins_with_the_application_and_ends_with_it_in_order,
        ),
        (
            "stop leaves the application alone",
            stop_leaves_the_application_alone,
        ),
        (
            "attaches inside activate and quits from a callback",
            attaches_inside_activate_and_quits_from_a_callback,
        ),
        (
            "a detached reactor leaves nothing behind",
            a_detached_reactor_leaves_nothing_behind,
        ),
        (
            "a reactor that is detached while it stops is gone",
            a_reactor_that_is_detached_while_it_stops_is_gone,
        ),
        (
            "an application that quits while stopping",
            an_application_that_quits_while_stopping,
        ),
        (
            "a modal dialog keeps everybody else going",
            a_modal_dialog_keeps_everybody_else_going,
        ),
        (
            "menus, file choosers and drags keep everybody going",
            menus_file_choosers_and_drags_keep_everybody_going,
        ),
        (
            "a busy network leaves the window its frames",
            a_busy_network_leaves_the_window_its_frames,
        ),
        (
            "a busy window leaves the network its floor",
            a_busy_window_leaves_the_network_its_floor,
        ),
    ];
    for (name, test) in tests {
        println!("{name}");
        test();
    }
}

fn application() -> Application {
    Application::builder()
        .flags(gio::ApplicationFlags::NON_UNIQUE)
        .build()
}

/// Runs the application with a window that is redrawn in each frame; returns the number of frames.
fn run(application: &Application, activate: impl Fn(&ApplicationWindow) + 'static) -> u32 {
    let frames = Rc::new(Cell::new(0));
    application.connect_activate({
        let frames = frames.clone();
        move |application| {
            let label = Label::new(Some("entwined"));
            let window = ApplicationWindow::builder()
                .application(application)
                .child(&label)
                .build();
            let frames = frames.clone();
            window.add_tick_callback(move |_, _| {
                frames.set(frames.get() + 1);
                label.queue_draw();
                ControlFlow::Continue
            });
            window.present();
            activate(&window);
        }
    });
    let guard = glib::timeout_add_local_once(Duration::from_secs(30), || {
        panic!("nobody quit the application")
    });
    application.run_with_args::<&str>(&[]);
    guard.remove();
    frames.get()
}

/// Records each phase of the shutdown, after a wait that needs the loop.
fn note_phases(handle: &Handle, notes: &Rc<RefCell<Vec<&'static str>>>) {
    for (phase, note) in [
        (Phase::Before, "before"),
        (Phase::During, "during"),
        (Phase::After, "after"),
    ] {
        let (sleeper, notes) = (handle.clone(), notes.clone());
        handle
            .on_shutdown(phase, move || async move {
                sleeper.sleep(Duration::from_millis(5)).await;
                notes.borrow_mut().push(note);
                Ok(())
            })
            .keep();
    }
}

/// Counts the runs of timers, calls and tasks.
fn work(handle: &Handle) -> [Rc<Cell<u32>>; 3] {
    fn timer(handle: &Handle, count: Rc<Cell<u32>>) {
        let again = handle.clone();
        handle.call_later(Duration::from_millis(1), move || {
            count.set(count.get() + 1);
            timer(&again, count);
        });
    }
    fn call(handle: &Handle, count: Rc<Cell<u32>>) {
        let again = handle.clone();
        handle.call_soon(move || {
            count.set(count.get() + 1);
            call(&again, count);
        });
    }
    let counts: [Rc<Cell<u32>>; 3] = Default::default();
    timer(handle, counts[0].clone());
    call(handle, counts[1].clone());
    let (sleeper, count) = (handle.clone(), counts[2].clone());
    handle.spawn(async move {
        loop {
            sleeper.sleep(Duration::from_millis(1)).await;
            count.set(count.get() + 1);
        }
    });
    counts
}

fn begins_with_the_application_and_ends_with_it_in_order() {
    let application = application();
    let handle = entwined_gtk4::attach(&application)
        .expect("a reactor")
        .keep();
    let notes: Rc<RefCell<Vec<&'static str>>> = Rc::default();
    note_phases(&handle, &notes);
    handle.call_soon({
        let notes = notes.clone();
        move || notes.borrow_mut().push("call")
    });
    assert_eq!(handle.try_stop(), Err(LifeError::NotRunning));
    let kept = Rc::new(());
    handle.spawn({
        let kept = kept.clone();
        async move {
            std::future::pending::<()>().await;
            drop(kept);
        }
    });
    run(&application, {
        let (handle, notes) = (handle.clone(), notes.clone());
        move |window| {
            assert!(handle.is_running());
            assert!(
                notes.borrow().is_empty(),
                "something ran before the loop did"
            );
            let application = window.application().expect("its own");
            glib::timeout_add_local_once(Duration::from_millis(20), move || application.quit());
        }
    });
    assert_eq!(*notes.borrow(), ["call", "before", "during", "after"]);
    assert!(!handle.is_running());
    assert_eq!(
        Rc::strong_count(&kept),
        1,
        "a task outlived the application"
    );
    assert_eq!(handle.try_stop(), Err(LifeError::NotRunning));
}

fn stop_leaves_the_application_alone() {
    let application = application();
    let handle = entwined_gtk4::attach(&application)
        .expect("a reactor")
        .keep();
    let notes: Rc<RefCell<Vec<&'static str>>> = Rc::default();
    let frames = run(&application, {
        let (handle, notes) = (handle.clone(), notes.clone());
        move |window| {
            handle.stop();
            let application = window.application().expect("its own");
            let (handle, notes) = (handle.clone(), notes.clone());
            glib::timeout_add_local_once(Duration::from_millis(200), move || {
                assert!(!handle.is_running());
                // Another reactor begins at once.
                let another = entwined_gtk4::attach(&application)
                    .expect("a reactor")
                    .keep();
                assert!(another.is_running());
                note_phases(&another, &notes);
                another.call_later(Duration::from_millis(5), move || application.quit());
            });
        }
    });
    assert!(frames > 3, "the window stalled");
    assert_eq!(*notes.borrow(), ["before", "during", "after"]);
}

fn attaches_inside_activate_and_quits_from_a_callback() {
    let application = application();
    let notes: Rc<RefCell<Vec<&'static str>>> = Rc::default();
    run(&application, {
        let notes = notes.clone();
        move |window| {
            let application = window.application().expect("its own");
            let handle = entwined_gtk4::attach(&application)
                .expect("a reactor")
                .keep();
            note_phases(&handle, &notes);
            handle.call_soon(|| panic!("it must not reach GTK"));
            handle.call_later(Duration::from_millis(5), move || application.quit());
        }
    });
    assert_eq!(*notes.borrow(), ["before", "during", "after"]);
}

fn a_detached_reactor_leaves_nothing_behind() {
    let fds = || std::fs::read_dir("/proc/self/fd").expect("proc").count();
    let application = application();
    let counted = Rc::new(Cell::new(None));
    run(&application, {
        let counted = counted.clone();
        move |window| {
            assert!(window.surface().is_some(), "its clock is followed at once");
            let application = window.application().expect("its own");
            let before = fds();
            for _ in 0..4 {
                let network = entwined_gtk4::attach(&application).expect("a reactor");
                assert!(network.is_running());
                network.detach();
            }
            counted.set(Some((before, fds())));
            application.quit();
        }
    });
    let (before, after) = counted.get().expect("it was activated");
    assert_eq!(before, after, "file descriptors");
}

fn a_reactor_that_is_detached_while_it_stops_is_gone() {
    let application = application();
    let network = entwined_gtk4::attach(&application).expect("a reactor");
    let handle = network.handle();
    let (mut network, running) = (Some(network), Rc::new(Cell::new(None)));
    handle
        .on_shutdown(Phase::Before, {
            let (handle, running) = (handle.clone(), running.clone());
            move || {
                network.take();
                running.set(Some(handle.is_running()));
                async { Ok(()) }
            }
        })
        .keep();
    handle
        .on_shutdown(Phase::After, || -> std::future::Ready<_> {
            unreachable!("after it was detached")
        })
        .keep();
    run(&application, |window| {
        window.application().expect("its own").quit()
    });
    assert_eq!(running.get(), Some(false));
}

fn an_application_that_quits_while_stopping() {
    let application = application();
    let handle = entwined_gtk4::attach(&application)
        .expect("a reactor")
        .keep();
    let notes: Rc<RefCell<Vec<&'static str>>> = Rc::default();
    note_phases(&handle, &notes);
    run(&application, move |window| {
        handle.stop();
        window.application().expect("its own").quit();
    });
    assert_eq!(*notes.borrow(), ["before", "during", "after"]);
}

fn a_modal_dialog_keeps_everybody_else_going() {
    let application = application();
    let handle = entwined_gtk4::attach(&application)
        .expect("a reactor")
        .keep();
    let opened = Rc::new(Cell::new(0));
    run(&application, {
        let opened = opened.clone();
        move |window| {
            let counts = work(&handle);
            let (window, opened) = (window.clone(), opened.clone());
            handle.call_later(Duration::from_millis(5), {
                let handle = handle.clone();
                move || {
                    ask(&handle, &window, &counts, &opened, 3);
                    window.application().expect("its own").quit();
                }
            });
        }
    });
    assert_eq!(opened.get(), 3);
}

/// Opens a dialog and waits for its end in a nested loop. From inside that it opens another,
/// `levels` deep.
fn ask(
    handle: &Handle,
    parent: &impl IsA<Window>,
    counts: &[Rc<Cell<u32>>; 3],
    opened: &Rc<Cell<u32>>,
    levels: u32,
) {
    let dialog = Window::builder()
        .modal(true)
        .transient_for(parent)
        .child(&Label::new(Some("Well?")))
        .build();
    let nested = MainLoop::new(None, false);
    dialog.connect_close_request({
        let nested = nested.clone();
        move |_| {
            nested.quit();
            glib::Propagation::Proceed
        }
    });
    let before = counts.each_ref().map(|count| count.get());
    handle.call_later(Duration::from_millis(50), {
        let (handle, dialog, counts, opened) = (
            handle.clone(),
            dialog.clone(),
            counts.clone(),
            opened.clone(),
        );
        move || {
            for (count, before) in counts.iter().zip(before) {
                assert!(
                    count.get() > before,
                    "something stalled: {counts:?}, before {before:?}"
                );
            }
            if levels > 1 {
                ask(&handle, &dialog, &counts, &opened, levels - 1);
            }
            opened.set(opened.get() + 1);
            dialog.close();
        }
    });
    dialog.present();
    nested.run();
}

/// Widgets that grab the input: each is opened from a callback of the reactor, and closed from
/// another.
fn menus_file_choosers_and_drags_keep_everybody_going() {
    let application = application();
    let handle = entwined_gtk4::attach(&application)
        .expect("a reactor")
        .keep();
    let ended = Rc::new(Cell::new(false));
    run(&application, {
        let ended = ended.clone();
        move |window| {
            let counts = work(&handle);
            let (clock, ended, window) = (handle.clone(), ended.clone(), window.clone());
            let goes_on = move |what: &'static str| {
                let (clock, counts) = (clock.clone(), counts.clone());
                let before = counts.each_ref().map(|count| count.get());
                async move {
                    clock.sleep(Duration::from_millis(50)).await;
                    for (count, before) in counts.iter().zip(before) {
                        assert!(
                            count.get() > before,
                            "with {what} something stalled: {counts:?}, before {before:?}"
                        );
                    }
                }
            };
            handle.spawn(async move {
                let entries = gio::Menu::new();
                entries.append(Some("Nothing"), None);
                let menu = PopoverMenu::from_model(Some(&entries));
                menu.set_parent(&window.child().expect("a label"));
                menu.popup();
                goes_on("a menu").await;
                assert!(menu.is_visible());
                menu.popdown();
                menu.unparent();

                let chooser = FileChooserNative::new(
                    Some("Which?"),
                    Some(&window),
                    FileChooserAction::Open,
                    Some("This"),
                    Some("None"),
                );
                chooser.set_modal(true);
                chooser.show();
                goes_on("a file chooser").await;
                assert!(chooser.is_visible());
                chooser.destroy();

                let surface = window.surface().expect("it is shown");
                let seat = gtk4::prelude::WidgetExt::display(&window)
                    .default_seat()
                    .expect("a seat");
                let pointer = seat.pointer().expect("a pointer");
                let text = gdk::ContentProvider::for_value(&"dragged".to_value());
                let drag =
                    gdk::Drag::begin(&surface, &pointer, &text, gdk::DragAction::COPY, 1.0, 1.0);
                goes_on("a drag").await;
                if let Some(drag) = drag {
                    drag.drop_done(false);
                }
                ended.set(true);
                window.application().expect("its own").quit();
            });
        }
    });
    assert!(ended.get());
}

fn a_busy_network_leaves_the_window_its_frames() {
    let application = application();
    let handle = entwined_gtk4::attach(&application)
        .expect("a reactor")
        .keep();
    let (polls, metrics) = (Rc::new(Cell::new(0)), handle.clone());
    for _ in 0..64 {
        let polls = polls.clone();
        let busy = std::future::poll_fn::<(), _>(move |cx| {
            polls.set(polls.get() + 1);
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        });
        handle.spawn(busy);
    }
    let frames = run(&application, |window| {
        let application = window.application().expect("its own");
        glib::timeout_add_local_once(Duration::from_secs(2), move || application.quit());
    });
    // An idle application draws about 120, on a machine without other load.
    assert!(frames > 60, "only {frames} frames in two seconds");
    let told = metrics.metrics().frames;
    assert!(
        told.drawn >= u64::from(frames) - 1 && told.gaps.count() > 60,
        "{frames} frames, and {told:?}"
    );
    assert!(polls.get() > 10_000, "only {} polls", polls.get());
}

fn a_busy_window_leaves_the_network_its_floor() {
    let application = application();
    let handle = entwined_gtk4::attach(&application)
        .expect("a reactor")
        .keep();
    let counts = work(&handle);
    run(&application, |window| {
        let application = window.application().expect("its own");
        // Without the floors, neither a frame nor the network would ever run.
        glib::timeout_add_local_full(Duration::ZERO, Priority::DEFAULT, || ControlFlow::Continue);
        glib::timeout_add_local_once(Duration::from_millis(500), move || application.quit());
    });
    for count in counts {
        assert!(count.get() >= 10, "only {} of some thirty", count.get());
    }
}
