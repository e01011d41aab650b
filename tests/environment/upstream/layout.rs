//! Small archives in the layouts of the real hosts. Their programs are scripts that say which
//! they are.

use crate::environment::Files;
use crate::environment::archive::tar_gz;
use crate::support::http::{Reply, Request, Server};
use zagi::registry::digest::Digest;

const ARCH: &str = std::env::consts::ARCH;

/// How node's makers write this platform.
pub fn node_target() -> String {
    format!("linux-{}", if ARCH == "x86_64" { "x64" } else { "arm64" })
}

fn triple() -> String {
    format!("{ARCH}-unknown-linux-gnu")
}

pub fn put(files: &Files, path: &str, file: Vec<u8>) {
    files.lock().expect("no handler panics").insert(path.to_owned(), file);
}

fn script(path: &str, tool: &str) -> String {
    let name = path.rsplit('/').next().expect("split yields at least one item");
    format!("#!/bin/sh\necho \"{name} of {tool} $1\"\n")
}

/// An archive of programs, in the directory `top`.
pub fn programs(top: &str, paths: &[&str], tool: &str) -> Vec<u8> {
    let scripts: Vec<(String, String)> =
        paths.iter().map(|path| (format!("{top}/{path}"), script(path, tool))).collect();
    let members: Vec<(&str, u32, &[u8])> =
        scripts.iter().map(|(path, text)| (path.as_str(), 0o755, text.as_bytes())).collect();
    tar_gz(&members)
}

/// Serves `files`; what is asked of Go's address is answered as there, from elsewhere.
pub fn serve(files: &Files) -> Server {
    let files = files.clone();
    Server::start(move |request: &Request| {
        if let Some(name) = request.path.strip_prefix("/go/").filter(|name| !name.is_empty()) {
            return Reply::new(302, "").with("location", &format!("/dl.google.com/go/{name}"));
        }
        match files.lock().expect("no handler panics").get(&request.path) {
            Some(file) => Reply::ok(file.clone()),
            None => Reply::not_found(),
        }
    })
}

pub struct Layout<'a> {
    files: &'a Files,
    base: &'a str,
}

impl<'a> Layout<'a> {
    pub fn new(files: &'a Files, base: &'a str) -> Layout<'a> {
        Layout { files, base }
    }

    fn put(&self, path: &str, file: Vec<u8>) -> String {
        let sum = Digest::sha256(&file).hex();
        put(self.files, path, file);
        sum
    }

    /// Adds an entry to a document that is a list.
    fn push(&self, path: &str, entry: serde_json::Value) {
        let mut list: Vec<serde_json::Value> =
            match self.files.lock().expect("no handler panics").get(path) {
                Some(text) => serde_json::from_slice(text).expect("we wrote it"),
                None => Vec::new(),
            };
        list.push(entry);
        self.put(path, serde_json::to_vec(&list).expect("it has a form in JSON"));
    }

    pub fn node(&self, version: &str, date: &str) {
        let target = node_target();
        let name = format!("node-v{version}-{target}");
        let path = format!("/nodejs/v{version}/{name}.tar.gz");
        let sum = self.put(&path, programs(&name, &["bin/node"], "node"));
        let other = "0".repeat(64);
        let sums = format!(
            "{other}  node-v{version}-aix-ppc64.tar.gz\n{sum}  {name}.tar.gz\n{other}  win-x64/node.exe\n"
        );
        self.put(&format!("/nodejs/v{version}/SHASUMS256.txt"), sums.into_bytes());
        let entry = serde_json::json!({
            "version": format!("v{version}"), "date": date, "files": ["aix-ppc64", "src", target],
            "npm": "10.7.0", "v8": "12.4.254.14", "lts": false, "security": false,
        });
        self.push("/nodejs/index.json", entry);
    }

    pub fn go(&self, version: &str) {
        let arch = if ARCH == "x86_64" { "amd64" } else { "arm64" };
        let name = format!("go{version}.linux-{arch}.tar.gz");
        let file = programs("go", &["bin/go", "bin/gofmt"], "go");
        let sum = self.put(&format!("/dl.google.com/go/{name}"), file);
        let file = |name: &str, os: &str, arch: &str, sum: &str, kind: &str| {
            serde_json::json!({"filename": name, "os": os, "arch": arch, "sha256": sum,
                "version": format!("go{version}"), "size": 1, "kind": kind})
        };
        let entry = serde_json::json!({"version": format!("go{version}"), "stable": true, "files": [
            file(&format!("go{version}.src.tar.gz"), "", "", &"1".repeat(64), "source"),
            file(&name, "linux", arch, &sum, "archive"),
        ]});
        self.push("/go/", entry);
    }

    pub fn zig(&self, version: &str) {
        let name = format!("zig-linux-{ARCH}-{version}");
        let sum =
            self.put(&format!("/zig/{version}/{name}.tar.gz"), programs(&name, &["zig"], "zig"));
        let file = serde_json::json!({"shasum": sum, "size": "1",
            "tarball": format!("https://ziglang.org/download/{version}/{name}.tar.gz")});
        let index = serde_json::json!({
            "master": {"version": "0.99.0-dev.1+abc", "date": "2025-01-01", "src": {}},
            version: {"date": "2024-06-07", "notes": "x", "src": {}, format!("{ARCH}-linux"): file},
        });
        self.put("/zig/index.json", index.to_string().into_bytes());
    }

    pub fn rust(&self, version: &str, date: &str) {
        let triple = triple();
        let std = format!("rust-std-{triple}");
        let mut manifest = format!("manifest-version = \"2\"\ndate = \"{date}\"\n");
        let components: [(&str, &str, &str, &[&str]); 5] = [
            ("rustc", "rustc", "rustc", &["bin/rustc", "bin/rustdoc"]),
            ("cargo", "cargo", "cargo", &["bin/cargo"]),
            ("rust-std", "rust-std", &std, &["lib/rustlib/libstd.rlib"]),
            ("rustfmt-preview", "rustfmt", "rustfmt-preview", &["bin/rustfmt", "bin/cargo-fmt"]),
            (
                "clippy-preview",
                "clippy",
                "clippy-preview",
                &["bin/cargo-clippy", "bin/clippy-driver"],
            ),
        ];
        for (package, file, directory, bins) in components {
            let top = format!("{file}-{version}-{triple}");
            let path = format!("dist/{date}/{top}.tar.gz");
            let inside = programs(&format!("{top}/{directory}"), bins, "rust");
            let sum = self.put(&format!("/rust/{path}"), inside);
            manifest += &format!(
                "[pkg.{package}]\nversion = \"{version} (x 1)\"\n[pkg.{package}.target.wasm]\n\
                 available = false\n[pkg.{package}.target.{triple}]\navailable = true\n\
                 url = \"https://static.rust-lang.org/{path}\"\nhash = \"{sum}\"\n"
            );
        }
        let name = format!("channel-rust-{version}.toml");
        let sum = self.put(&format!("/rust/dist/{name}"), manifest.into_bytes());
        self.put(&format!("/rust/dist/{name}.sha256"), format!("{sum}  {name}\n").into_bytes());
        let list = format!(
            "static.rust-lang.org/dist/{date}/channel-rust-nightly.toml\n\
             static.rust-lang.org/dist/{date}/{name}\n"
        );
        self.put("/rust/manifests.txt", list.into_bytes());
    }

    pub fn python(&self, builds: &[&str]) {
        let mut lines = String::new();
        for build in builds {
            let (version, day) = build.split_once('+').expect("a build has a day");
            let line: Vec<&str> = version.splitn(3, '.').take(2).collect();
            let line = line.join(".");
            let name = format!("cpython-{build}-{}-install_only.tar.gz", triple());
            let path = format!("python-build-standalone/releases/download/{day}/{name}");
            let bin = format!("python/bin/python{line}");
            let file = tar_gz(&[
                (&bin, 0o755, script(&bin, "python").as_bytes()),
                (
                    &format!("python/lib/python{line}/_sysconfigdata__linux.py"),
                    0o644,
                    b"build_time_vars = {'CC': 'clang -pthread', 'prefix': '/install'}\n",
                ),
            ]);
            let sum = self.put(&format!("/python-builds/{path}"), file);
            let artifact = |variant: &str, url: &str| {
                serde_json::json!({"platform": triple(), "variant": variant, "sha256": sum,
                    "url": url, "archive_format": "tar.gz"})
            };
            let said = serde_json::json!({"version": build, "date": "2024-12-05T00:00:00Z",
            "artifacts": [
                artifact("debug+full", "https://github.com/astral-sh/x.tar.zst"),
                artifact("install_only", &format!("https://github.com/astral-sh/{path}")),
            ]});
            lines += &format!("{said}\n");
        }
        let path = "/python-builds/versions/main/v1/python-build-standalone.ndjson";
        self.put(path, lines.into_bytes());
    }

    pub fn java(&self, versions: &[(u32, u32)]) {
        const NAMES: [&str; 25] = [
            "jar",
            "jarsigner",
            "java",
            "javac",
            "javadoc",
            "javap",
            "jcmd",
            "jdb",
            "jdeprscan",
            "jdeps",
            "jfr",
            "jhsdb",
            "jimage",
            "jinfo",
            "jlink",
            "jmap",
            "jmod",
            "jps",
            "jrunscript",
            "jshell",
            "jstack",
            "jstat",
            "keytool",
            "rmiregistry",
            "serialver",
        ];
        let paths = NAMES.map(|name| format!("bin/{name}"));
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        for (major, security) in versions {
            let release = format!("jdk-{major}.0.{security}+9");
            let name = format!("OpenJDK{major}U-jdk_linux_hotspot_{major}.0.{security}_9.tar.gz");
            let path = format!("/github.com/adoptium/{release}/{name}").replace('+', "%2B");
            let sum = self.put(&path, programs(&release, &paths, "java"));
            let link = format!("{}{path}", self.base);
            let entry = serde_json::json!({
                "release_name": release, "release_type": "ga", "vendor": "eclipse",
                "timestamp": "2024-07-17T22:28:58Z",
                "binaries": [{"os": "linux", "image_type": "jdk",
                    "package": {"name": name, "link": link, "checksum": sum, "size": 1}}],
                "version_data": {"major": major, "minor": 0, "security": security, "build": 9,
                    "semver": format!("{major}.0.{security}+9")},
            });
            self.push("/adoptium/v3/assets/version/%5B1.0,100.0%5D", entry);
        }
    }
}
