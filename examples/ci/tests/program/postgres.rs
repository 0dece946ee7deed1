//! Several masters that share their builds in PostgreSQL, which is a server of its own for each
//! test. psql looks at what is stored.

use std::io::Write as _;

use super::*;

/// PostgreSQL does not run as root, so it runs as the user that Debian's package makes.
fn as_postgres(program: &str) -> Command {
    let folder = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL");
    let mut versions: Vec<_> = folder
        .map(|entry| entry.expect("a folder").path())
        .collect();
    versions.sort();
    let path = versions.pop().expect("a version").join("bin").join(program);
    if run(Command::new("id").arg("-u")) != "0" {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(path);
    command
}

pub struct Postgres {
    process: Running,
    folder: tempfile::TempDir,
}

impl Postgres {
    pub fn start() -> Postgres {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        run(Command::new("chmod").arg("777").arg(at));
        run(as_postgres("initdb")
            .args(["--no-sync", "--auth=trust", "--username=ci", "--pgdata"])
            .arg(at.join("data"))
            .current_dir(at)
            .env("LC_ALL", "C.UTF-8"));
        let process = Postgres::run(at);
        Postgres { process, folder }
    }

    fn run(at: &Path) -> Running {
        let process = as_postgres("postgres")
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(at)
            .arg("-D")
            .arg(at.join("data"))
            .current_dir(at)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PostgreSQL");
        let process = Running(process);
        until(|| {
            let ready = Command::new("pg_isready")
                .args(["--quiet", "--host"])
                .arg(at)
                .status();
            ready.expect("PostgreSQL").success().then_some(())
        });
        process
    }

    pub fn url(&self) -> String {
        let folder = self.folder.path().to_string_lossy().replace('/', "%2F");
        format!("postgres://ci@{folder}/postgres")
    }

    fn client(&self) -> Command {
        let mut command = Command::new("psql");
        command
            .args([
                "--no-psqlrc",
                "--tuples-only",
                "--no-align",
                "--username=ci",
            ])
            .args(["--dbname=postgres", "--host"])
            .arg(self.folder.path());
        command
    }

    pub fn psql(&self, sql: &str) -> String {
        run(self.client().args(["--command", sql]))
    }

    /// Ends it as if the machine had lost its power, and starts it again.
    pub fn restart(&mut self) {
        // The whole of it: its children notice, and it waits for them.
        self.process.signal("QUIT");
        self.process.0.wait().expect("ours");
        self.process = Postgres::run(self.folder.path());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.process.signal("INT");
        let _ = self.process.0.wait();
    }
}

impl Master {
    /// Waits until it has its database.
    fn until_ready(&self) {
        let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        until(|| (self.curl(&status, "/builds") == "200").then_some(()));
    }
}

/// The worker goes while the database is still taking a build for it.
#[test]
fn a_build_that_is_taken_for_a_worker_that_has_gone_is_not_lost() {
    let postgres = Postgres::start();
    let site = Site::new(&["master", "one", "two"]);
    let url = postgres.url();
    let master = site.master_with(&["one", "two"], None, &["--database", &url]);
    master.until_ready();
    let id = master.build("echo done");
    let mut changes = Running(
        Command::new("curl")
            .args(["--silent", "--no-buffer", "--max-time", "40"])
            .arg(format!("{}/changes", master.url))
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl runs"),
    );
    let mut changes = BufReader::new(changes.0.stdout.take().expect("piped")).lines();
    let mut until_change = |expected: &str| {
        let found = changes.any(|line| line.expect("text") == format!("data: {expected}"));
        assert!(found, "nothing came");
    };
    // The database is connected.
    until_change("0");
    // From now on, a change waits for this lock.
    postgres.psql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_advisory_xact_lock(-1); RETURN NEW; END $$;
        CREATE TRIGGER wait BEFORE UPDATE ON build FOR EACH ROW EXECUTE FUNCTION wait();",
    );
    let mut lock = Running(
        postgres
            .client()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql runs"),
    );
    let mut input = lock.0.stdin.take().expect("piped");
    let begin = "SELECT pg_advisory_lock(-1);\n\\echo locked\n";
    input.write_all(begin.as_bytes()).expect("psql reads");
    let output = BufReader::new(lock.0.stdout.take().expect("piped"));
    let mut lines = output.lines();
    assert!(lines.any(|line| line.expect("text") == "locked"));

    let one = site.worker("one", &master);
    until_change("0");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until(|| (postgres.psql(waits) == "1").then_some(()));
    drop(one);
    until_change("0");
    // Ends psql, and the lock with it.
    drop(input);
    let _two = site.worker("two", &master);
    master.until_state(&id, "passed");
}

#[test]
fn two_masters_share_a_queue() {
    let postgres = Postgres::start();
    let site = Site::new(&["master", "one", "two"]);
    let url = postgres.url();
    let database = ["--database", url.as_str()];
    let one = site.master_with(&["one"], None, &database);
    let two = site.master_with(&["two"], None, &database);
    one.until_ready();
    two.until_ready();
    let _worker = site.worker("one", &one);
    // Asked for at one, built by a worker of the other, cancelled at the first.
    let ids = ["echo begun; sleep 1000", "sleep 1000"].map(|script| two.build(script));
    for id in &ids {
        one.until_state(id, "running");
        assert_eq!(
            postgres.psql(&format!("SELECT worker FROM build WHERE id = {id}")),
            "one"
        );
        two.curl(&["--request", "POST"], &format!("/builds/{id}/cancel"));
        one.until_state(id, "cancelled");
    }
    // Its worker is free again, and both masters show the log.
    let id = two.build("echo here; echo there");
    assert_eq!(two.log(&id), "here\nthere");
    assert_eq!(one.log(&id), "here\nthere");
    let states = postgres.psql("SELECT string_agg(state, ' ' ORDER BY id) FROM build");
    assert_eq!(states, "cancelled cancelled passed");
}

#[test]
fn a_build_of_a_master_that_was_killed_goes_to_another() {
    let postgres = Postgres::start();
    let site = Site::new(&["master", "one", "two"]);
    let url = postgres.url();
    let database = ["--database", url.as_str()];
    let one = site.master_with(&["one"], None, &database);
    let two = site.master_with(&["two"], None, &database);
    one.until_ready();
    two.until_ready();
    let _workers = [site.worker("one", &one), site.worker("two", &two)];
    let (file, go) = (site.file("tries"), site.file("go"));
    let (file, go) = (file.display(), go.display());
    let script = format!("echo try >> {file}; until test -e {go}; do sleep 0.05; done; echo end");
    let id = one.build(&script);
    site.until_file("tries");
    let first = postgres.psql("SELECT worker FROM build");
    let (killed, other) = if first == "one" {
        (one, two)
    } else {
        (two, one)
    };
    let start = Instant::now();
    drop(killed);
    until(|| (site.until_file("tries") == "try\ntry\n").then_some(()));
    println!(
        "ci: another master took over a build after {:.1?}",
        start.elapsed()
    );
    fs::write(site.file("go"), "").expect("a file");
    assert!(other.log(&id).ends_with("end"));
    assert_eq!(postgres.psql("SELECT state, tries FROM build"), "passed|2");
}

/// A machine that has lost its power says nothing: the master would wait for ever.
#[test]
fn a_database_that_does_not_answer_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let site = Site::new(&["master", "one"]);
    let database = format!("postgres://ci@127.0.0.1:{port}/ci");
    let _master = site.master_with(&["one"], None, &["--database", &database]);
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().expect("it connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        std::io::copy(&mut stream, &mut std::io::sink()).expect("it ends");
    }
}
