//! What must hold whatever breaks. `FAULTS` is how often; `cargo xtask programs --faults` sets it.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    time::UNIX_EPOCH,
};

use tempfile::TempDir;

use super::{postgres::Postgres, *};

fn rounds() -> usize {
    let rounds = std::env::var("FAULTS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// Numbers that are different each time, which is what is wanted here.
fn random(below: u64) -> u64 {
    let time = UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
    ((time ^ (time >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % below
}

/// Asks for builds as fast as curl does, whatever happens to the master. Returns those that were
/// confirmed: their numbers, and what each of them says.
fn ask(url: &Mutex<Option<String>>) -> Vec<(String, usize)> {
    let mut confirmed = Vec::new();
    for word in 0.. {
        let Some(url) = url.lock().expect("no panic").clone() else {
            break;
        };
        let script = format!("echo word {word}");
        let new = serde_json::json!({ "script": script }).to_string();
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "10", "--json", &new])
            .arg(format!("{url}/builds"))
            .output()
            .expect("curl runs");
        let answer = String::from_utf8_lossy(&output.stdout);
        let number = answer
            .strip_prefix("{\"id\":")
            .and_then(|rest| rest.strip_suffix('}'));
        confirmed.extend(number.map(|number| (number.to_owned(), word)));
    }
    confirmed
}

#[test]
fn masters_and_workers_that_are_killed_lose_and_double_nothing() {
    let names = ["one", "two"];
    let site = Site::new(&["master", "one", "two"]);
    let mut master = site.master(&names, None);
    let mut workers = names.map(|name| site.worker(name, &master));
    let url = Arc::new(Mutex::new(Some(master.url.clone())));
    let asking = thread::spawn({
        let url = url.clone();
        move || ask(&url)
    });
    let mut killed = [0; 3];
    for _ in 0..rounds() {
        thread::sleep(Duration::from_millis(50 + random(300)));
        let victim = random(3) as usize;
        killed[victim] += 1;
        if victim == 2 {
            let address = master.workers.clone();
            drop(master);
            master = site.master(&names, Some(&address));
            *url.lock().expect("no panic") = Some(master.url.clone());
        } else {
            let _ = workers[victim].0.kill();
            workers[victim] = site.worker(names[victim], &master);
        }
    }
    *url.lock().expect("no panic") = None;
    let confirmed = asking.join().expect("no panic");
    let database = site.file("ci-data/builds.db");
    let sql = |sql: &str| run(Command::new("sqlite3").arg(&database).arg(sql));
    let open = "SELECT count(*) FROM build WHERE state IN ('queued', 'running')";
    until(|| (sql(open) == "0").then_some(()));

    let rows = sql("SELECT id, script, state, tries FROM build");
    let mut builds = std::collections::HashMap::new();
    for row in rows.lines() {
        let mut parts = row.split('|').map(str::to_owned);
        let mut next = || parts.next().expect("four columns");
        builds.insert(next(), (next(), next(), next()));
    }
    let (mut again, mut given_up) = (0, 0);
    for (number, word) in &confirmed {
        let (script, state, tries) = builds.remove(number).expect("it is there once");
        assert_eq!(script, format!("echo word {word}"));
        again += usize::from(tries != "1");
        if state == "failed" && tries == "3" {
            // A worker was killed each time that it was tried.
            given_up += 1;
            continue;
        }
        assert_eq!(state, "passed", "{number}");
        let log = master.log(number);
        assert!(log.contains(&format!("word {word}")), "{log}");
    }
    // What was not confirmed was added as a whole: at most one for each kill of the master.
    assert!(builds.len() <= killed[2], "{builds:?}");
    println!(
        "ci: killed a master {} times and workers {}; {} builds confirmed, {again} of them tried \
         again, {given_up} given up after three tries, none lost or doubled",
        killed[2],
        killed[0] + killed[1],
        confirmed.len(),
    );
}

/// Two masters, a worker of each, and PostgreSQL: any of them is ended at a random moment.
#[test]
fn masters_that_share_a_database_lose_and_double_nothing() {
    let names = ["one", "two"];
    let mut postgres = Postgres::start();
    let site = Site::new(&["master", "one", "two"]);
    let database_url = postgres.url();
    let database = ["--database", database_url.as_str()];
    let mut masters = names.map(|name| site.master_with(&[name], None, &database));
    let mut workers = [0, 1].map(|at| site.worker(names[at], &masters[at]));
    let urls = masters
        .each_ref()
        .map(|master| Arc::new(Mutex::new(Some(master.url.clone()))));
    let asking = urls.clone().map(|url| thread::spawn(move || ask(&url)));
    let mut ended = [0; 3];
    for _ in 0..rounds() {
        thread::sleep(Duration::from_millis(100 + random(600)));
        let at = random(2) as usize;
        let kind = random(3) as usize;
        ended[kind] += 1;
        match kind {
            0 => {
                let _ = workers[at].0.kill();
                workers[at] = site.worker(names[at], &masters[at]);
            }
            1 => {
                let address = masters[at].workers.clone();
                let _ = masters[at].process.0.kill();
                let _ = masters[at].process.0.wait();
                masters[at] = site.master_with(&[names[at]], Some(&address), &database);
                *urls[at].lock().expect("no panic") = Some(masters[at].url.clone());
            }
            _ => postgres.restart(),
        }
    }
    let mut confirmed = Vec::new();
    for (url, asking) in urls.iter().zip(asking) {
        *url.lock().expect("no panic") = None;
        confirmed.extend(asking.join().expect("no panic"));
    }
    let open = "SELECT count(*) FROM build WHERE state IN ('queued', 'running')";
    until(|| (postgres.psql(open) == "0").then_some(()));
    let rows = postgres.psql("SELECT id, script, state, tries FROM build");
    let total = rows.lines().count();
    let (mut again, mut given_up) = (0, 0);
    for (number, word) in &confirmed {
        let prefix = format!("{number}|echo word {word}|");
        let found: Vec<_> = rows
            .lines()
            .filter_map(|row| row.strip_prefix(&prefix))
            .collect();
        let [found] = found[..] else {
            panic!("{prefix}: {found:?}");
        };
        again += usize::from(!found.ends_with("|1"));
        if found == "failed|3" {
            given_up += 1;
            continue;
        }
        assert!(found.starts_with("passed|"), "{prefix}{found}");
        let log = masters[0].log(number);
        assert!(log.contains(&format!("word {word}")), "{log}");
    }
    // What was not confirmed was added as a whole: at most one for each that asks and each end.
    assert!(total - confirmed.len() <= 2 * rounds(), "{total}");
    println!(
        "ci with PostgreSQL: it was restarted {} times, masters killed {} and workers {} times; \
         {} builds confirmed, {again} of them tried again, {given_up} given up after three tries, \
         none lost or doubled",
        ended[2],
        ended[1],
        ended[0],
        confirmed.len(),
    );
}

#[test]
fn a_build_on_a_full_disk_is_tried_again_when_there_is_room() {
    let Some(disk) = Disk::mount(4 << 20) else {
        return;
    };
    let folder = tempfile::tempdir_in(disk.0.path()).expect("a folder");
    let site = Site::new_in(folder, &["master", "one"]);
    let master = site.master(&["one"], None);
    let _worker = site.worker("one", &master);
    let before = master.build("echo before");
    assert_eq!(master.log(&before), "before");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (begun, go) = (elsewhere.path().join("begun"), elsewhere.path().join("go"));
    let script = format!(
        "echo x >> {}; until test -e {}; do sleep 0.05; done; seq 2000",
        begun.display(),
        go.display()
    );
    let id = master.build(&script);
    until(|| begun.exists().then_some(()));
    disk.fill();
    fs::write(go, "").expect("a file");
    // Neither its log nor how it ended has room.
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let new = ["--json", r#"{"script": "echo refused"}"#];
    until(|| (master.curl(&[&status[..], &new].concat(), "/builds") == "500").then_some(()));
    thread::sleep(Duration::from_secs(2));
    disk.free();
    master.until_state(&id, "passed");
    let tries = fs::read_to_string(begun).expect("a file").lines().count();
    let lines: Vec<_> = (1..=2_000).map(|number: u32| number.to_string()).collect();
    assert!(master.log(&id).ends_with(&lines.join("\n")));
    assert_eq!(master.log(&before), "before");
    assert_eq!(master.log(&master.build("echo after")), "after");
    println!(
        "ci: a build whose log had no room was tried {tries} times, and passed with room again"
    );
}

/// A disk of this many bytes, in memory. `None` without the rights to mount it.
struct Disk(TempDir);

impl Disk {
    fn mount(bytes: usize) -> Option<Disk> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            println!("not tested: a full disk, because only root can mount one");
        }
        mounted.then_some(Disk(folder))
    }

    /// Writes until nothing fits any more.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filling")).expect("a file");
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        while file.write_all(b"x").is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filling")).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}
