//! A binary cache as Nix makes it, served from memory, so that it can be spoilt.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use ed25519_dalek::{Signer, SigningKey};
use zagi_integration::http::{Reply, Request, Server};

/// Contents by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// `say` is a script that starts `hello`, a program that reads `words`; both have their
/// interpreters and libraries in the store.
///
/// A script ends with a word of the shell's. A shell becomes what a script ends with, and
/// coreutils close their output before they end: Nix takes that for the end and kills who is
/// still there, 20 times in 240 here, which is a build that "failed due to signal 9".
const PACKAGES: &str = r#"
let
  mk = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" (script + "\nexit 0") ];
    PATH = "/usr/bin:/bin";
  };
  runtime = mk "runtime-1.0" ''
    mkdir -p $out/lib
    loader=$(ldd /bin/sh | grep -o '/[^ ]*/ld-linux[^ ]*')
    cp -L $loader $out/lib/loader
    cp -L $(ldd /bin/sh | grep -o '/[^ ]*/libc.so.6') $out/lib
  '';
  words = mk "words-1.0" ''
    mkdir -p $out/share
    echo "hello from the store" > $out/share/words
  '';
  shell = mk "shell-1.0" ''
    mkdir -p $out/bin
    cp -L /bin/sh $out/bin/sh
  '';
  hello = mk "hello-2.0" ''
    mkdir -p $out/bin
    cat > main.c <<END
    #include <stdio.h>
    #include <stdlib.h>
    #include <unistd.h>
    int main(int argc, char **argv) {
      char line[256], here[4096];
      FILE *words = fopen("${words}/share/words", "r");
      if (!words || !fgets(line, sizeof line, words)) return 1;
      fputs(line, stdout);
      printf("%s|%d|%d|%s\n", argc > 1 ? argv[1] : "", (int)getuid(), (int)getpid(),
             getcwd(here, sizeof here));
      return argc > 2 ? atoi(argv[2]) : 0;
    }
    END
    gcc main.c -o $out/bin/hello \
      -Wl,--dynamic-linker=${runtime}/lib/loader -Wl,-rpath=${runtime}/lib
  '';
in mk "say-2.0" ''
  mkdir -p $out/bin
  printf '#!%s\nexec %s "$@"\n' ${shell}/bin/sh ${hello}/bin/hello > $out/bin/say
  chmod +x $out/bin/say
''
"#;

struct Built {
    files: Files,
    key: String,
}

/// Built once for all tests.
fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| build(tempfile::tempdir().expect("a temporary directory").path()))
}

/// Has Nix build, sign and publish. Its store stands in `dir`, its builders run in its own
/// sandbox: the machine gets no `/nix`.
fn build(dir: &Path) -> Built {
    let conf = "experimental-features = nix-command\nsandbox = true\nsandbox-fallback = false\n\
                sandbox-paths = /bin /usr /lib /lib64\nfilter-syscalls = false\n\
                substituters =\nbuild-users-group =\n";
    std::fs::write(dir.join("nix.conf"), conf).unwrap();
    std::fs::write(dir.join("packages.nix"), PACKAGES).unwrap();
    let script = "out=$(nix-build packages.nix --no-out-link)\n\
                  nix-store --generate-binary-cache-key test-1 secret public\n\
                  nix copy --to \"file://$PWD/cache?secret-key=$PWD/secret&compression=zstd\" $out\n\
                  nix-store -qR $out | xz > list\n";
    let out = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir)
        .env("HOME", dir)
        .env("NIX_CONF_DIR", dir)
        .env("NIX_REMOTE", format!("local?root={}", dir.join("root").display()))
        .output()
        .unwrap();
    assert!(out.status.success(), "is nix-bin installed? {}", String::from_utf8_lossy(&out.stderr));
    let mut files = Files::new();
    for entry in walkdir::WalkDir::new(dir.join("cache")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(dir).unwrap().to_str().unwrap();
            files.insert(format!("/{path}"), std::fs::read(entry.path()).unwrap());
        }
    }
    files.insert("/release-1/store-paths.xz".into(), std::fs::read(dir.join("list")).unwrap());
    Built { files, key: std::fs::read_to_string(dir.join("public")).unwrap() }
}

/// The cache below `/cache`, and a channel that leads to `/release-1`.
pub struct Cache {
    files: Arc<Mutex<Files>>,
    server: Server,
}

impl Cache {
    pub fn new() -> Cache {
        let files = Arc::new(Mutex::new(built().files.clone()));
        let served = files.clone();
        let server = Server::start(move |request: &Request| {
            if let Some(rest) = request.path.strip_prefix("/channel/") {
                return Reply::new(302, "").with("location", &format!("/release-1/{rest}"));
            }
            match served.lock().unwrap().get(&request.path) {
                Some(bytes) => Reply::ranged(request, bytes),
                None => Reply::not_found(),
            }
        });
        Cache { files, server }
    }

    pub fn base(&self) -> &str {
        &self.server.base
    }

    /// The key that Nix has signed with.
    pub fn key(&self) -> &str {
        &built().key
    }

    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    pub fn files(&self) -> Files {
        self.files.lock().unwrap().clone()
    }

    pub fn set_files(&self, files: Files) {
        *self.files.lock().unwrap() = files;
    }

    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.files.lock().unwrap().insert(path.into(), bytes.into());
    }

    /// Where the narinfo of a package is: its store path is told by its name.
    fn place(&self, package: &str) -> String {
        let about = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            let path = text.lines().find_map(|line| line.strip_prefix("StorePath: "));
            path.is_some_and(|path| path.contains(&format!("-{package}-")))
        };
        let files = self.files();
        let mut infos = files.iter().filter(|(path, _)| path.ends_with(".narinfo"));
        infos.find(|(_, text)| about(text)).expect("the package is in the cache").0.clone()
    }

    pub fn info(&self, package: &str) -> String {
        String::from_utf8(self.files()[&self.place(package)].clone()).unwrap()
    }

    /// Changes a narinfo, really.
    pub fn edit(&self, package: &str, edit: impl FnOnce(String) -> String) {
        let (place, before) = (self.place(package), self.info(package));
        let after = edit(before.clone());
        assert_ne!(after, before);
        self.put(&place, after.as_bytes());
    }

    pub fn remove(&self, package: &str) {
        let place = self.place(package);
        self.files.lock().unwrap().remove(&place);
    }

    /// Changes the packed archive of a package.
    pub fn edit_file(&self, package: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let info = self.info(package);
        let url = info.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
        let place = format!("/cache/{url}");
        let bytes = edit(self.files()[&place].clone());
        self.put(&place, &bytes);
    }
}

/// Somebody who has a key that is trusted, and signs what Nix would not.
pub struct Forger {
    name: String,
    key: SigningKey,
}

impl Forger {
    pub fn new(name: &str) -> Forger {
        Forger { name: name.into(), key: SigningKey::from_bytes(&[7; 32]) }
    }

    pub fn key(&self) -> String {
        format!("{}:{}", self.name, base64(self.key.verifying_key().as_bytes()))
    }

    /// Puts `archive` in the place of what the cache has for a package.
    pub fn publish(&self, cache: &Cache, package: &str, archive: &[u8]) {
        let info = cache.info(package);
        let path = info.lines().find_map(|line| line.strip_prefix("StorePath: ")).unwrap();
        let hash = zagi::registry::digest::Digest::sha256(archive);
        let base32 = Command::new("nix-hash")
            .args(["--type", "sha256", "--to-base32", &hash.hex()])
            .output()
            .unwrap();
        let base32 = String::from_utf8(base32.stdout).unwrap();
        let (base32, size) = (base32.trim(), archive.len());
        let signature = self.key.sign(format!("1;{path};sha256:{base32};{size};").as_bytes());
        let text = format!(
            "StorePath: {path}\nURL: nar/forged.nar\nCompression: none\n\
             FileHash: sha256:{base32}\nNarHash: sha256:{base32}\nNarSize: {size}\nReferences: \n\
             Sig: {}:{}\n",
            self.name,
            base64(&signature.to_bytes())
        );
        cache.put(&cache.place(package), text.as_bytes());
        cache.put("/cache/nar/forged.nar", archive);
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |chunk: &[u8], n: usize| {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        match n <= chunk.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize]),
            false => '=',
        }
    };
    bytes.chunks(3).flat_map(|chunk| (0..4).map(move |n| digit(chunk, n))).collect()
}

/// An archive, word by word.
fn archive(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words {
        bytes.extend((word.len() as u64).to_le_bytes());
        bytes.extend(word.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// A directory of files with these names.
pub fn directory(names: &[&str]) -> Vec<u8> {
    let mut words = vec!["nix-archive-1", "(", "type", "directory"];
    for name in names {
        words.extend(["entry", "(", "name", name, "node", "(", "type", "regular"]);
        words.extend(["contents", "x", ")", ")"]);
    }
    words.push(")");
    archive(&words)
}

/// A link to `target`, and a file behind it.
pub fn link_then_file(target: &str) -> Vec<u8> {
    let mut words = vec!["nix-archive-1", "(", "type", "directory"];
    words.extend(["entry", "(", "name", "d", "node", "(", "type", "symlink", "target", target]);
    words.extend([")", ")", "entry", "(", "name", "d", "node", "(", "type", "directory"]);
    words.extend(["entry", "(", "name", "file", "node", "(", "type", "regular", "contents", "x"]);
    words.extend([")", ")", ")", ")", ")"]);
    archive(&words)
}
