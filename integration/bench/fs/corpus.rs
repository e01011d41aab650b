//! The repository: published packages committed as source, a package.json with its lock file,
//! and a second commit in which a thousand files differ. It is made once, beside this program.

use std::path::{Path, PathBuf};
use std::process::Command;

use zagi_integration::machine::Who;

use super::place::{Interrupt, Place};

/// Goes up when what is made here changes.
const VERSION: u32 = 1;

/// Published sources, and where they stand in `third_party`.
const SOURCES: [(&str, &str); 9] = [
    ("pypi:django@5.1.4", "django"),
    ("pypi:jinja2@3.1.4", "jinja2"),
    ("pypi:markupsafe@2.1.5", "markupsafe"),
    ("pypi:pytest@8.3.4", "pytest"),
    ("pypi:pluggy@1.5.0", "pluggy"),
    ("pypi:iniconfig@2.0.0", "iniconfig"),
    ("pypi:packaging@24.2", "packaging"),
    ("crate:ripgrep@14.1.1", "ripgrep"),
    ("npm:rxjs@7.8.1", "rxjs"),
];

const PACKAGE: &str = r#"{
  "name": "bench",
  "version": "1.0.0",
  "private": true,
  "jest": { "roots": ["tests"] },
  "dependencies": {
    "core-js": "3.39.0",
    "date-fns": "4.1.0",
    "lodash": "4.17.21",
    "react": "18.3.1",
    "react-dom": "18.3.1",
    "rxjs": "7.8.1"
  },
  "devDependencies": {
    "@types/node": "20.17.10",
    "jest": "29.7.0",
    "typescript": "5.6.3",
    "webpack": "5.97.1"
  }
}
"#;

const TSCONFIG: &str = r#"{
  "compilerOptions": {
    "target": "es2019",
    "module": "commonjs",
    "lib": ["es2019", "dom"],
    "types": ["node"],
    "strict": true,
    "declaration": true,
    "outDir": "build"
  },
  "include": ["third_party/rxjs/src/index.ts", "third_party/rxjs/src/operators/index.ts"]
}
"#;

const VENDORED: &str = r#"[source.crates-io]
replace-with = "vendored"

[source.vendored]
directory = "vendor"
"#;

const IGNORED: &str =
    "node_modules/\n/build/\n/.jest/\n/pg/\n/pg.log\ntarget*/\n__pycache__/\n.pytest_cache/\n";

/// Files of tests for jest, each of which loads some packages.
const TESTS: usize = 16;

/// How many files differ between the two commits.
const DIFFER: usize = 1_000;

/// The repository: its directory has a `.git` with the branches `main` and `other`.
pub fn repository(interrupt: &Interrupt) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own file");
    let data = own.with_file_name("bench-fs-data");
    let dir = data.join(format!("corpus-{VERSION}"));
    if !dir.exists() {
        std::fs::create_dir_all(&data).expect("the build directory is ours");
        // Not made where it stays: there cargo would think it a part of this program.
        let place = Place::new(Who::Me, interrupt);
        let made = place.directory("corpus");
        make(&place, &made);
        run(&data, &format!("cp -a {} partial && mv partial corpus-{VERSION}", made.display()));
    }
    dir.canonicalize().expect("it is there")
}

fn make(place: &Place, dir: &Path) {
    eprintln!("the repository is made of published packages, once");
    let write = |path: &str, text: &str| {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is ours");
        std::fs::write(path, text).expect("it is ours");
    };
    write("package.json", PACKAGE);
    write("tsconfig.json", TSCONFIG);
    write(".gitignore", IGNORED);
    for i in 0..TESTS {
        write(&format!("tests/t{i}.test.js"), &test(i));
    }
    run(dir, "npm install --package-lock-only --ignore-scripts --no-audit --no-fund --silent");
    for (package, name) in SOURCES {
        eprintln!("  {package}");
        place.zagi(&["mount", "-q", "--materialise", "--no-deps", package, name]);
        let script = "rm -rf .git .zagi && mkdir -p $DIR/third_party && mv $PWD $DIR/third_party/";
        let from = place.path(name);
        run(&from, &script.replace("$DIR", dir.to_str().expect("its path is plain")));
    }
    run(&dir.join("third_party/ripgrep"), "cargo vendor -q --locked");
    write("third_party/ripgrep/.cargo/config.toml", VENDORED);
    run(dir, &commits());
}

fn test(i: usize) -> String {
    format!(
        "const _ = require('lodash');
const {{ add, format }} = require('date-fns');
const {{ of, map, toArray }} = require('rxjs');
const React = require('react');
const {{ renderToString }} = require('react-dom/server');
test('dates {i}', () => expect(format(add(new Date(0), {{ days: {i} }}), 'yyyy')).toMatch(/19/));
test('lists {i}', () => expect(_.chunk(_.range({i}), 2).flat().length).toBe({i}));
test('streams {i}', () => {{ of({i}).pipe(map((x) => x + 1), toArray()).subscribe((x) => expect(x).toEqual([{i} + 1])); }});
test('pages {i}', () => expect(renderToString(React.createElement('p', null, {i}))).toBe('<p>{i}</p>'));
"
    )
}

/// Attributes and ignored names within the packages must not decide what is committed.
fn commits() -> String {
    format!(
        "export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
find third_party -name .gitattributes -not -path '*/vendor/*' -delete
git init -q -b main .
git config user.name T && git config user.email t@localhost && git config gc.auto 0
mkdir -p .git/info && echo '* -text !eol !filter' > .git/info/attributes
git add -A -f && git commit -q -m one
git checkout -q -b other
find third_party/django -name '*.py' | sort | head -{DIFFER} > .git/list
test $(wc -l < .git/list) = {DIFFER}
while read -r file; do echo '# and a line' >> \"$file\"; done < .git/list
git commit -q -a -m two
git checkout -q main && git repack -q -a -d"
    )
}

/// A script with what the one who measures has on PATH.
fn run(dir: &Path, script: &str) {
    let mut command = Command::new("sh");
    let status = command.args(["-ec", script]).current_dir(dir).status().expect("there is a shell");
    assert!(status.success(), "{script}");
}
