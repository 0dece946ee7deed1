//! A guest on winit's connection to a compositor: weston without a screen, which the test starts.
#![cfg(feature = "wayland")]

use std::{
    cell::{Cell, RefCell},
    num::NonZero,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use entwined::{
    Handle,
    reactor::{Driver, Phase, Selector},
};
use entwined_window::wayland::{Guest, Inhibitor, Presentation};
use entwined_winit::{Lent, RunError, Winit};
use softbuffer::{Context, Surface};
use wayland_client::{
    Connection, Dispatch, QueueHandle,
    protocol::{wl_callback, wl_callback::WlCallback, wl_registry, wl_registry::WlRegistry},
};
use winit::{
    application::ApplicationHandler,
    event::WindowEvent,
    event_loop::{ActiveEventLoop, EventLoop, OwnedDisplayHandle},
    window::{Window, WindowId},
};

/// The limit for each step.
const LIMIT: Duration = Duration::from_secs(20);

/// A compositor without a screen.
struct Weston {
    process: Child,
    folder: PathBuf,
}

impl Weston {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("entwined-weston-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let process = Command::new("weston")
            .args([
                "--backend=headless-backend.so",
                "--socket=entwined",
                "--no-config",
                "--idle-time=0",
            ])
            .env("XDG_RUNTIME_DIR", &folder)
            .env_remove("DISPLAY")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("weston; it is in the Debian package weston");
        let (socket, start) = (folder.join("entwined"), Instant::now());
        // The file is there before it listens.
        while UnixStream::connect(&socket).is_err() {
            assert!(start.elapsed() < LIMIT, "weston does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Weston { process, folder }
    }
}

impl Drop for Weston {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the guest's own objects report.
#[derive(Default)]
struct State {
    globals: Vec<String>,
    answers: u32,
}

impl Dispatch<WlRegistry, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlRegistry,
        event: wl_registry::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_registry::Event::Global { interface, .. } = event {
            state.globals.push(interface);
        }
    }
}

impl Dispatch<WlCallback, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlCallback,
        _: wl_callback::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.answers += 1;
    }
}

#[derive(Default)]
struct App {
    window: Option<Rc<Window>>,
    display: Option<OwnedDisplayHandle>,
    surface: Option<Surface<Rc<Window>, Rc<Window>>>,
    presentation: Option<Presentation>,
}

impl ApplicationHandler for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        self.display = Some(event_loop.owned_display_handle());
        let window = Rc::new(
            event_loop
                .create_window(Window::default_attributes())
                .expect("a window"),
        );
        let context = Context::new(window.clone()).expect("a display");
        self.surface = Some(Surface::new(&context, window.clone()).expect("a surface"));
        self.window = Some(window);
    }

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let (Some(surface), WindowEvent::RedrawRequested) = (&mut self.surface, event) else {
            return;
        };
        let side = NonZero::new(64).expect("it is none");
        surface.resize(side, side).expect("a surface");
        let mut pixels = surface.buffer_mut().expect("pixels");
        pixels.fill(0x33_66_99);
        if let Some(presentation) = &self.presentation {
            presentation.ask().expect("the window is there");
        }
        pixels.present().expect("a display");
    }
}

fn main() -> ExitCode {
    let weston = Weston::start();
    // SAFETY: there is no other thread yet.
    unsafe {
        std::env::set_var("XDG_RUNTIME_DIR", &weston.folder);
        std::env::set_var("WAYLAND_DISPLAY", "entwined");
        std::env::remove_var("DISPLAY");
    }
    let event_loop = EventLoop::new().expect("a Wayland display");
    serve_two_runs(event_loop.owned_display_handle());
    serve_after_a_wait(event_loop.owned_display_handle());
    let network = Winit::<App>::new().expect("a reactor");
    let handle = network.handle();
    let phases = Rc::new(RefCell::new(Vec::new()));
    for (phase, name) in [
        (Phase::Before, "before"),
        (Phase::During, "during"),
        (Phase::After, "after"),
    ] {
        let phases = phases.clone();
        handle
            .on_shutdown(phase, move || {
                phases.borrow_mut().push(name);
                async { Ok(()) }
            })
            .keep();
    }
    let ended = Rc::new(Cell::new(false));
    handle.spawn({
        let (visit, handle, ended) = (
            visit(handle.clone(), network.app(), weston),
            handle.clone(),
            ended.clone(),
        );
        async move {
            visit.await;
            ended.set(true);
            // winit may have noticed as well.
            handle.stop();
        }
    });
    let result = network.run(event_loop, &mut App::default());
    println!("{result:?}");
    assert!(
        matches!(result, Err(RunError::Exit(_))),
        "winit ends with its display"
    );
    assert_eq!(
        *phases.borrow(),
        ["before", "during", "after"],
        "the network has ended in order"
    );
    println!("ok; the guest noticed first: {}", ended.get());
    ExitCode::SUCCESS
}

/// A guest is served in each run of its reactor. winit's loop does not run yet: the test does what
/// it would do.
fn serve_two_runs(display: OwnedDisplayHandle) {
    let driver = Driver::new(Rc::new(Selector::new().expect("a selector")), ());
    let handle = driver.handle();
    let guest = Guest::new(&handle, display, State::default()).expect("a guest");
    let connection = guest.connection();
    for run in 1..=2 {
        driver.start().expect("a run");
        connection.display().sync(&guest.queue_handle(), ());
        connection.flush().expect("a display");
        let start = Instant::now();
        while guest.with(|state| state.answers < run) {
            driver.turn(Some(LIMIT)).expect("a selector");
            assert!(
                start.elapsed() < LIMIT,
                "nothing wakes the guest in run {run}"
            );
            // The toolkit reads, and the guest looks.
            if let Some(reading) = connection.prepare_read() {
                let _ = reading.read();
            }
            driver.turn(Some(Duration::ZERO)).expect("a selector");
        }
        handle.stop();
        while handle.is_running() {
            driver.turn(Some(Duration::ZERO)).expect("a selector");
        }
    }
}

/// What comes for a guest while its state is borrowed, by a callback that makes turns meanwhile, is
/// served when it is free again, though nothing else comes.
fn serve_after_a_wait(display: OwnedDisplayHandle) {
    let driver = Driver::new(Rc::new(Selector::new().expect("a selector")), ());
    let handle = driver.handle();
    let guest = Guest::new(&handle, display, State::default()).expect("a guest");
    let connection = guest.connection();
    driver.start().expect("a run");
    connection.display().sync(&guest.queue_handle(), ());
    connection.flush().expect("a display");
    guest.with(|_| {
        driver.turn(Some(LIMIT)).expect("a selector");
        // The toolkit reads.
        if let Some(reading) = connection.prepare_read() {
            let _ = reading.read();
        }
        driver.turn(Some(Duration::ZERO)).expect("a selector");
        // Also for who asks for this then.
        let _ = guest.queue_handle();
    });
    let start = Instant::now();
    driver.turn(Some(LIMIT)).expect("a selector");
    assert_eq!(guest.with(|state| state.answers), 1);
    assert!(start.elapsed() < LIMIT / 2);
}

/// Uses a guest until all features were seen, then ends the compositor.
async fn visit(handle: Handle, app: Lent<App>, weston: Weston) {
    let seen = || app.with(|app| app.window.clone().zip(app.display.clone()));
    let (window, display) = loop {
        match seen() {
            Some(both) => break both,
            None => handle.sleep(Duration::from_millis(5)).await,
        }
    };
    let guest = Guest::new(&handle, display.clone(), State::default()).expect("a guest");
    guest
        .connection()
        .display()
        .get_registry(&guest.queue_handle(), ());
    until(&handle, || {
        guest.with(|state| state.globals.iter().any(|name| name == "wl_compositor"))
    })
    .await;
    // Many round trips, whichever side reads the socket: each is answered, and soon.
    let (count, start) = (200, Instant::now());
    for number in 1..=count {
        round_trip(&handle, &guest, number).await;
    }
    println!("{count} round trips in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));

    let presentation =
        Presentation::new(&handle, display.clone(), window.clone()).expect("a guest");
    see_frames(&handle, &app, &window, presentation).await;

    let inhibitor = Inhibitor::new(&handle, display, window).expect("an inhibitor");
    let knows = guest.with(|state| {
        state
            .globals
            .iter()
            .any(|name| name == "zwp_idle_inhibit_manager_v1")
    });
    println!("the compositor knows idle-inhibit: {knows}");
    if knows {
        until(&handle, || inhibitor.is_active()).await;
    } else {
        handle.sleep(Duration::from_millis(100)).await;
        assert!(!inhibitor.is_active());
    }
    drop(inhibitor);
    // Dropping it affected none of the others.
    round_trip(&handle, &guest, count + 1).await;

    let gone = guest.gone();
    drop(weston);
    let why = gone
        .add_timeout(&handle, LIMIT)
        .await
        .expect("it is noticed");
    println!("gone: {why}");
    assert!(guest.gone().await.is_ok(), "also for who asks later");
}

async fn until(handle: &Handle, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "it never comes");
        handle.sleep(Duration::from_millis(1)).await;
    }
}

/// Asks the compositor for an answer, and waits for the guest's answer with this number.
async fn round_trip(handle: &Handle, guest: &Guest<State>, number: u32) {
    guest.connection().display().sync(&guest.queue_handle(), ());
    until(handle, || guest.with(|state| state.answers == number)).await;
}

/// Makes the window draw until some frames are known to have been shown.
async fn see_frames(handle: &Handle, app: &Lent<App>, window: &Window, presentation: Presentation) {
    until(handle, || presentation.is_known()).await;
    app.with(|app| app.presentation = Some(presentation));
    let presented = || {
        app.with(|app| {
            app.presentation
                .as_ref()
                .expect("it was put there")
                .presented()
        })
    };
    until(handle, || {
        window.request_redraw();
        presented().shown >= 10
    })
    .await;
    println!("{:?}", presented());
    let refresh = presented().refresh.expect("weston tells");
    assert!(
        (Duration::from_millis(5)..Duration::from_millis(50)).contains(&refresh),
        "{refresh:?}"
    );
    app.with(|app| app.presentation = None);
}
