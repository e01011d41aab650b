//! Services: real databases, brought by zagi itself, and real clients.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use zagi_integration::machine::{Machine, Said, Who};

/// A machine on which no service outlives the test.
struct Served {
    machine: Machine,
    origin: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        for name in ["w", "v"] {
            let _ = self.machine.zagi_in(&self.machine.work(), &["down", "--dir", name]).output();
        }
    }
}

impl Served {
    /// With a repository whose `env.toml` is `text`.
    fn new(who: Who, text: &str) -> Served {
        let machine = Machine::new(who);
        let origin = super::git::repository(&machine, "served");
        let served = Served { machine, origin };
        served.write(&served.origin, text);
        served.machine.git(&served.origin, &["add", "-A"]).ok();
        served.machine.git(&served.origin, &["commit", "-qm", "services"]).ok();
        served
    }

    fn write(&self, dir: &Path, text: &str) {
        let script = format!("mkdir -p .zagi; cat >.zagi/env.toml <<'END'\n{text}\nEND");
        self.machine.sh(dir, &script).ok();
    }

    fn mount(&self, name: &str) -> PathBuf {
        let said = self.machine.zagi(&["mount", self.origin.to_str().unwrap(), name]).ok();
        assert!(said.err.contains("zagi up"), "{}", said.err);
        self.machine.work().join(name)
    }

    fn zagi(&self, dir: &Path, arguments: &[&str]) -> Said {
        Said::of(&mut self.machine.zagi_in(dir, arguments))
    }

    /// What `ps` says of one service.
    fn ps(&self, dir: &Path, name: &str) -> Value {
        let all = self.zagi(dir, &["ps", "--json"]).ok().json();
        let found = all.as_array().unwrap().iter().find(|shown| shown["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {all}")).clone()
    }

    fn exec(&self, dir: &Path, script: &str) -> String {
        self.machine.exec(dir, script).ok().out
    }

    /// Waits until the service is as it should be.
    #[track_caller]
    fn wait(&self, dir: &Path, name: &str, health: &str) {
        let begun = Instant::now();
        while self.ps(dir, name)["health"] != health {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", self.ps(dir, name));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The processes below `pid`, itself included, that are called `name`.
fn called(pid: &Value, name: &str) -> Vec<i32> {
    let mut found = Vec::new();
    let mut pending = vec![i32::try_from(pid.as_i64().expect("a number")).unwrap()];
    while let Some(pid) = pending.pop() {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        if read("comm").is_ok_and(|comm| comm.trim() == name) {
            found.push(pid);
        }
        let children = read(&format!("task/{pid}/children")).unwrap_or_default();
        pending.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    found
}

const BOTH: &str = "[services]\npostgres = \"16\"\nredis = \"7\"\n";

fn data_is_kept_and_the_workspace_takes_its_services_along(who: Who) {
    let served = Served::new(who, BOTH);
    let w = served.mount("w");
    assert_eq!(served.ps(&w, "postgres")["health"], "stopped");
    let said = served.zagi(&w, &["up"]).ok().err;
    assert!(said.contains("postgres 16.") && said.contains("redis 7."), "{said}");
    assert!(served.zagi(&w, &["up"]).ok().err.contains("runs already"));

    served.exec(
        &w,
        "psql -qc 'create table letters (x text)'; psql -qc \"insert into letters values ('ä')\"",
    );
    assert_eq!(
        served.exec(&w, "psql \"$DATABASE_URL\" -Atc 'select upper(x) from letters'"),
        "Ä\n"
    );
    let redis = "redis-cli -s \"${REDIS_URL#unix://}\"";
    assert_eq!(served.exec(&w, &format!("{redis} set k v")), "OK\n");
    let shown = served.ps(&w, "postgres");
    assert_eq!((&shown["health"], &shown["port"]), (&"ready".into(), &Value::Null));
    // Nobody else gets in, and nothing listens at a port.
    let socket = Path::new(shown["socket"].as_str().unwrap());
    let mode =
        Said::of(std::process::Command::new("stat").args(["-c%a"]).arg(socket.parent().unwrap()));
    assert_eq!(mode.ok().out, "700\n");
    assert_eq!(served.exec(&w, "psql -Atc 'show listen_addresses'"), "\n");

    let logs = served.zagi(&w, &["logs", "postgres", "-n", "3"]).ok().out;
    assert_eq!(logs.lines().count(), 3, "{logs}");
    assert!(logs.contains("ready to accept connections"), "{logs}");
    let status = served.zagi(&w, &["status", "--json"]).ok().json();
    assert_eq!(status["services"], serde_json::json!(["postgres", "redis"]));
    assert_eq!(served.machine.git(&w, &["status", "--porcelain"]).ok().out, "");

    assert!(served.zagi(&w, &["down", "redis"]).ok().err.contains("stopped redis"));
    assert_eq!(served.ps(&w, "redis")["health"], "stopped");
    served.zagi(&w, &["down"]).ok();
    assert!(served.zagi(&w, &["down"]).ok().err.contains("nothing ran"));
    served.zagi(&w, &["up"]).ok();
    assert_eq!(served.exec(&w, "psql -Atc 'select x from letters'"), "ä\n");
    assert_eq!(served.exec(&w, &format!("{redis} get k")), "v\n");

    let keeper = served.ps(&w, "postgres")["pid"].clone();
    assert!(!called(&keeper, "postgres").is_empty());
    let said = served.machine.zagi(&["unmount", "w"]).ok().err;
    assert!(said.contains("postgres ran, and was stopped"), "{said}");
    assert!(called(&keeper, "postgres").is_empty());
    served.zagi(&w, &["up"]).fails(1, "is not mounted");
    served.machine.zagi(&["mount", "./w"]).ok();
    served.zagi(&w, &["up", "postgres"]).ok();
    assert_eq!(served.exec(&w, "psql -Atc 'select x from letters'"), "ä\n");
    served.machine.zagi(&["discard", "--yes", "w"]).ok();
    assert!(!socket.exists());
}

#[test]
fn data_is_kept_as_root() {
    data_is_kept_and_the_workspace_takes_its_services_along(Who::Me);
}

#[test]
fn data_is_kept_as_an_ordinary_user() {
    data_is_kept_and_the_workspace_takes_its_services_along(Who::Ordinary);
}

#[test]
fn two_workspaces_have_their_own_and_a_killed_one_comes_back() {
    let served = Served::new(Who::Me, "[services]\npostgres = \"16\"\n");
    let (w, v) = (served.mount("w"), served.mount("v"));
    // Several at once are one.
    std::thread::scope(|scope| {
        for dir in [&w, &w, &v] {
            scope.spawn(|| served.zagi(dir, &["up"]).ok());
        }
    });
    for (dir, word) in [(&w, "w"), (&v, "v")] {
        served.exec(dir, &format!("psql -qc \"create table own as select '{word}' as word\""));
    }
    assert_eq!(served.exec(&w, "psql -Atc 'select word from own'"), "w\n");
    assert_eq!(served.exec(&v, "psql -Atc 'select word from own'"), "v\n");

    let keeper = served.ps(&w, "postgres")["pid"].clone();
    let server = called(&keeper, "postgres")[0];
    served.machine.sh(&w, &format!("kill -9 {server}")).ok();
    served.wait(&w, "postgres", "died");
    assert!(served.zagi(&w, &["ps"]).ok().out.contains("SIGKILL"));
    served.zagi(&w, &["up"]).ok();
    assert_eq!(served.exec(&w, "psql -Atc 'select word from own'"), "w\n");

    // Its keeper is killed: nothing is left behind, and it starts as well.
    let keeper = served.ps(&w, "postgres")["pid"].clone();
    let all = called(&keeper, "postgres");
    served.machine.sh(&w, &format!("kill -9 {keeper}")).ok();
    served.wait(&w, "postgres", "died");
    let gone = |pid: &i32| !Path::new(&format!("/proc/{pid}")).exists();
    let begun = Instant::now();
    while !all.iter().all(gone) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{all:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    served.zagi(&w, &["up"]).ok();
    assert_eq!(served.exec(&w, "psql -Atc 'select word from own'"), "w\n");
    assert_eq!(served.ps(&v, "postgres")["health"], "ready");

    // What is asked for no longer is stopped; its data stays for another day.
    served.zagi(&w, &["remove", "postgres"]).ok();
    assert_eq!(served.zagi(&w, &["ps", "--json"]).ok().json(), serde_json::json!([]));
    assert!(served.zagi(&w, &["up"]).ok().err.contains("no services are asked for"));
    assert_eq!(served.exec(&w, "echo \"${DATABASE_URL-none}\""), "none\n");
    served.zagi(&w, &["add", "postgres@16"]).ok();
    served.zagi(&w, &["up"]).ok();
    assert_eq!(served.exec(&w, "psql -Atc 'select word from own'"), "w\n");
}

#[test]
fn ports_versions_and_damage_are_said_and_hurt_nothing() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let text =
        format!("[services]\nredis = {{ version = \"7\", port = {port} }}\npostgres = \"16\"\n");
    let served = Served::new(Who::Me, &text);
    let w = served.mount("w");
    let said = served.zagi(&w, &["up", "redis"]);
    let said = said.fails(1, &format!("port {port} of 127.0.0.1")).err;
    assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
    assert_eq!(served.ps(&w, "redis")["health"], "stopped");
    drop(taken);
    served.zagi(&w, &["up", "redis"]).ok();
    let url =
        served.exec(&w, "redis-cli -p $(echo $REDIS_URL | sed 's/.*:\\([0-9]*\\).*/\\1/') ping");
    assert_eq!(url, "PONG\n");

    served.zagi(&w, &["up", "mysql"]).fails(1, "its services are postgres, redis");
    served.zagi(&w, &["logs", "-f"]).fails(1, "one log is followed at a time");
    served.write(&w, "[services]\nredis = \"7\"\npostgres = \"16\"\n");
    served.zagi(&w, &["up", "redis"]).fails(1, "redis is not locked as it is asked for now");
    served.zagi(&w, &["lock"]).ok();
    let said = served.zagi(&w, &["up", "redis"]).ok().err;
    assert!(said.contains("started anew"), "{said}");
    assert_eq!(served.ps(&w, "redis")["port"], Value::Null);

    other_versions(&served, &w);
    damage(&served, &w);
}

fn other_versions(served: &Served, w: &Path) {
    served.zagi(w, &["up", "postgres"]).ok();
    served.exec(w, "psql -qc 'create table kept (x int)'");
    served.zagi(w, &["add", "postgres@17"]).ok();
    let said = served.zagi(w, &["up", "postgres"]).fails(1, "was made by version 16.").err;
    assert!(said.contains("the environment now has 17.") && said.contains("zagi add"), "{said}");
    // The old one was not even stopped.
    assert_eq!(served.exec(w, "psql -Atc 'select count(*) from kept'"), "0\n");
    served.zagi(w, &["add", "postgres@16"]).ok();
    served.zagi(w, &["up", "postgres"]).ok();
    assert_eq!(served.exec(w, "psql -Atc 'select count(*) from kept'"), "0\n");
}

fn damage(served: &Served, w: &Path) {
    served.zagi(w, &["down", "postgres"]).ok();
    let data = served.ps(w, "postgres")["data"].as_str().unwrap().to_owned();
    served.machine.sh(w, &format!("mv {data}/global {data}/elsewhere")).ok();
    let said = served.zagi(w, &["up", "postgres"]).fails(1, "postgres ended as soon as").err;
    assert!(said.contains("global") && said.contains("zagi logs postgres"), "{said}");
    served.machine.sh(w, &format!("mv {data}/elsewhere {data}/global")).ok();
    served.zagi(w, &["up", "postgres"]).ok();

    for (text, says) in [
        (
            "[services]\npostgrse = \"16\"\n",
            "no service is called `postgrse` (.zagi/env.toml:2); there is postgres",
        ),
        (
            "[services]\npostgres = { version = \"16\", port = 0 }\n",
            "must be a number from 1 to 65535",
        ),
        ("[services]\npostgres = \"99\"\n", "no postgres matches `99`"),
    ] {
        served.write(w, text);
        served.zagi(w, &["lock"]).fails(1, says);
    }
}
