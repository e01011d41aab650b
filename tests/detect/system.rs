//! Libraries of the system, and what asks for them.

use super::{detected, files, shown};

#[test]
fn what_images_and_workflows_install() {
    insta::assert_snapshot!(shown(&[
        ("Dockerfile", "FROM debian:bookworm AS base\nRUN apt-get update && \\\n    # tools\n    apt-get install -y --no-install-recommends \\\n    build-essential curl git libpq-dev=15* \\\n    python3-dev libfoo-dev:i386 ffmpeg && rm -rf /var/lib/apt\nFROM alpine\nRUN apk add --no-cache jpeg-dev bash gcc\n"),
        (".github/workflows/ci.yml", "jobs:\n  t:\n    steps:\n      - uses: actions/checkout@v4\n      - run: |\n          set -e\n          sudo apt-get install -y libvips-dev \\\n            libxml2-dev cmake\n          pip install libcairo2-dev\n"),
        (".travis.yml", "addons:\n  apt:\n    packages:\n      - libgeos-dev\n      - hello\n"),
        ("apt.txt", "# libraries\nlibsndfile1-dev # sound\n"),
        (".devcontainer/devcontainer.json", "{\"features\": {\"ghcr.io/rocker-org/devcontainer-features/apt-packages:1\": {\"packages\": \"libzmq3-dev,nano\"}},}"),
    ]), @"
    cc * pinned
        Default Dockerfile:2 apt install build-essential
        Default Dockerfile:2 apt install python3-dev
        Default Dockerfile:8 apk add gcc
    cmake * pinned
        Default .github/workflows/ci.yml:6 apt install cmake
    make * pinned
        Default Dockerfile:2 apt install build-essential
    system ffmpeg
        Tested Dockerfile:2 apt install ffmpeg
    system geos
        Tested .travis.yml:4 libgeos-dev
    system libjpeg
        Tested Dockerfile:8 apk add jpeg-dev
    system libpq
        Tested Dockerfile:2 apt install libpq-dev=15*
    system libsndfile
        Pin apt.txt:2 libsndfile1-dev
    system libxml2
        Tested .github/workflows/ci.yml:6 apt install libxml2-dev
    system vips
        Tested .github/workflows/ci.yml:6 apt install libvips-dev
    system zeromq
        Tested .devcontainer/devcontainer.json:1 feature libzmq3-dev
    ");
}

#[test]
fn python_packages_without_wheels() {
    insta::assert_snapshot!(shown(&[
        ("requirements.txt", "psycopg2>=2.9\npsycopg2-binary\nlxml\npsycopg[binary]\nPyGraphviz\n"),
    ]), @"
    python *
        Default requirements.txt:1 a Python project
    uv * pinned
        Default requirements.txt:1 installs Python projects
    system graphviz
        Manifest requirements.txt:5 PyGraphviz
    system libpq
        Manifest requirements.txt:1 psycopg2>=2.9
    Python . pip -
        inputs requirements.txt
        files requirements.txt
    ");
    insta::assert_snapshot!(shown(&[
        ("pyproject.toml", "[project]\nname = \"x\"\ndependencies = [\n  \"pycairo\",\n]\n"),
        ("uv.lock", "version = 1\n[[package]]\nname = \"lxml\"\nsdist = { url = \"https://x/lxml-5.tar.gz\" }\n[[package]]\nname = \"pillow\"\nwheels = [\n    { url = \"https://x/pillow-11-cp312-manylinux_2_28_x86_64.whl\" },\n]\n[[package]]\nname = \"h5py\"\nwheels = [\n    { url = \"https://x/h5py-3-cp312-win_amd64.whl\" },\n]\n"),
    ]), @"
    python *
        Default pyproject.toml:1 a Python project
    uv * pinned
        Default pyproject.toml:1 installs Python projects
    system cairo
        Manifest pyproject.toml:4 pycairo
    system hdf5
        Lock uv.lock:11 h5py: no wheel in the lock fits
    system libxml2
        Lock uv.lock:3 lxml: no wheel in the lock fits
    system libxslt
        Lock uv.lock:3 lxml: no wheel in the lock fits
    system zlib
        Lock uv.lock:3 lxml: no wheel in the lock fits
    Python . uv uv.lock
        inputs pyproject.toml, uv.lock
    ");
}

#[test]
fn crates_that_link() {
    insta::assert_snapshot!(shown(&[
        ("Cargo.toml", "[package]\nname = \"x\"\n"),
        ("Cargo.lock", "[[package]]\nname = \"openssl-sys\"\ndependencies = [\n \"cc\",\n \"pkg-config\",\n]\n\n[[package]]\nname = \"libsqlite3-sys\"\ndependencies = [\n \"cc\",\n]\n[[package]]\nname = \"alsa-sys\"\n"),
        ("build.rs", "fn main() {\n    pkg_config::Config::new().atleast_version(\"3\").probe(\"dbus-1\").unwrap();\n    pkg_config::probe_library(\"nothing-known\");\n}\n"),
    ]), @"
    cc * pinned
        Default Cargo.toml:1 rust links with it
    rust *
        Default Cargo.toml:1 a Rust project
    system alsa
        Lock Cargo.lock:14 alsa-sys
    system dbus
        Manifest build.rs:2 pkg-config dbus-1
    system openssl
        Lock Cargo.lock:2 openssl-sys
    Rust . cargo Cargo.lock
        inputs Cargo.lock, Cargo.toml
    test: cargo test
    build: cargo build
    ");
    insta::assert_snapshot!(shown(&[
        ("Cargo.toml", "[dependencies]\npq-sys = \"0.6\"\nlibsqlite3-sys = { version = \"0.30\", features = [\"bundled\"] }\n"),
    ]), @"
    cc * pinned
        Default Cargo.toml:1 rust links with it
    rust *
        Default Cargo.toml:1 a Rust project
    system libpq
        Manifest Cargo.toml:2 pq-sys
    Rust . cargo -
        inputs Cargo.toml
    test: cargo test
    build: cargo build
    ");
}

#[test]
fn modules_of_node_go_and_ruby() {
    insta::assert_snapshot!(shown(&[
        ("package.json", "{\"dependencies\": {\n\"canvas\": \"^2\",\n\"sharp\": \"1\"}}"),
        ("go.mod", "module x\nrequire (\n\tgithub.com/h2non/bimg v1.1.9\n\tgithub.com/go-gl/gl/v4.1-core v0.1.0\n\tgithub.com/google/gopacket v1 // indirect\n)\n"),
        ("x.go", "package x\n\n// #cgo pkg-config: libgit2\n// #cgo LDFLAGS: -lpcap\nimport \"C\"\n"),
        ("Gemfile", "gem \"mysql2\", \"~> 0.5\"\n"),
        ("Gemfile.lock", "GEM\n  specs:\n    mysql2 (0.5.6)\n    nokogiri (1.18.0-x86_64-linux-gnu)\n      racc (~> 1.4)\n    sqlite3 (1.4.0)\n\nRUBY VERSION\n   ruby 3.3.4p94\n"),
    ]), @r#"
    cc * pinned
        Default package.json:2 canvas is compiled
        Default x.go:5 import "C"
        Default Gemfile:1 gems are compiled with it
    go *
        Default go.mod:1 a Go project
    make * pinned
        Default package.json:2 canvas is compiled
        Default x.go:5 import "C"
        Default Gemfile:1 gems are compiled with it
    node 22 (firm *)
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm *
        Default package.json:1 installs Node projects
    python *
        Default package.json:2 canvas is compiled
    ruby 3.3.4 (firm 3) pinned
        Lock Gemfile.lock:9 ruby 3.3.4p94
        Default Gemfile:1 a Ruby project
        Default Gemfile.lock:9 ruby 3.3.4p94
    system cairo
        Manifest package.json:2 canvas
    system giflib
        Manifest package.json:2 canvas
    system libgit2
        Manifest x.go:3 #cgo pkg-config: libgit2
    system libjpeg
        Manifest package.json:2 canvas
    system libmysqlclient
        Manifest Gemfile:1 mysql2
        Lock Gemfile.lock:3 mysql2
    system libpcap
        Manifest x.go:4 #cgo LDFLAGS: -lpcap
    system librsvg
        Manifest package.json:2 canvas
    system mesa
        Manifest go.mod:4 github.com/go-gl/gl/v4.1-core
    system pango
        Manifest package.json:2 canvas
    system pixman
        Manifest package.json:2 canvas
    system sqlite
        Lock Gemfile.lock:6 sqlite3
    system vips
        Manifest go.mod:3 github.com/h2non/bimg
    Node . npm -
        inputs package.json
        native
    Go . go -
        inputs go.mod
        native
    Ruby . - Gemfile.lock
        inputs Gemfile, Gemfile.lock
        native
    test: go test ./...
    build: go build ./...
    "#);
}

#[test]
fn cmake() {
    insta::assert_snapshot!(shown(&[
        ("CMakeLists.txt", "cmake_minimum_required(VERSION 3.16)\nproject(x)\nenable_testing()\nfind_package(PkgConfig)\nfind_package(ZLIB REQUIRED) # find_package(CURL)\npkg_check_modules(GTK REQUIRED\n  gtk4>=4.2 # comment\n  nothing-known)\nfind_package(Qt5 COMPONENTS Core Svg)\nfind_library(PCAP NAMES wpcap pcap)\nadd_subdirectory(src)\n"),
        ("src/CMakeLists.txt", "find_package(OpenSSL)\nadd_subdirectory(../../outside)\n"),
    ]), @"
    cc * pinned
        Default CMakeLists.txt:1 a C or C++ project
    cmake * pinned
        Default CMakeLists.txt:1 a C or C++ project
    make * pinned
        Default CMakeLists.txt:1 a C or C++ project
    system gtk4
        Manifest CMakeLists.txt:6 pkg_check_modules(gtk4)
    system libpcap
        Manifest CMakeLists.txt:10 find_library(pcap)
    system libqt5svg5-dev
        Manifest CMakeLists.txt:9 find_package(Qt5)
    system openssl
        Manifest src/CMakeLists.txt:1 find_package(OpenSSL)
    system qtbase5-dev
        Manifest CMakeLists.txt:9 find_package(Qt5)
    system zlib
        Manifest CMakeLists.txt:5 find_package(ZLIB)
    C . - -
        inputs CMakeLists.txt
        native
    test: cmake -B build && cmake --build build && ctest --test-dir build --output-on-failure
    build: cmake -B build && cmake --build build
    ");
}

#[test]
fn meson() {
    insta::assert_snapshot!(shown(&[
        ("meson.build", "project('x', 'c')\nglib = dependency('glib-2.0', version: '>= 2.40')\nlua = dependency(['lua-5.4', 'lua5.4'])\ncc.find_library('m')\nflex = find_program('flex')\nsubdir('src')\ntest('t', exe)\n"),
        ("src/meson.build", "dependency('libcurl', required: false)\n"),
    ]), @"
    cc * pinned
        Default meson.build:1 a C or C++ project
    meson * pinned
        Default meson.build:1 a C or C++ project
    ninja * pinned
        Default meson.build:1 a C or C++ project
    system curl
        Manifest src/meson.build:1 dependency('libcurl')
    system flex
        Manifest meson.build:5 find_program('flex')
    system glib
        Manifest meson.build:2 dependency('glib-2.0')
    system lua
        Manifest meson.build:3 dependency('lua-5.4')
    C . - -
        inputs meson.build
        native
    test: meson setup build && meson test -C build
    build: meson setup build && meson compile -C build
    ");
}

#[test]
fn autoconf() {
    insta::assert_snapshot!(shown(&[
        ("configure.ac", "AC_INIT([x],[1])\ndnl PKG_CHECK_MODULES([A], [libgit2])\nPKG_CHECK_MODULES([GLIB], [glib-2.0 >= 2.40\n    libxml-2.0])\nAC_CHECK_LIB([z], [inflate], , [AC_MSG_ERROR([no zlib])])\nAC_SEARCH_LIBS([initscr], [ncursesw ncurses])\nAC_CHECK_HEADERS([stdlib.h expat.h])\nAC_PROG_YACC\n"),
        ("autogen.sh", ""),
    ]), @"
    cc * pinned
        Default configure.ac:1 a C or C++ project
    make * pinned
        Default configure.ac:1 a C or C++ project
    system autoconf
        Default configure.ac:1 makes `configure`
    system automake
        Default configure.ac:1 makes `configure`
    system bison
        Manifest configure.ac:8 AC_PROG_YACC
    system expat
        Manifest configure.ac:7 AC_CHECK_HEADERS expat.h
    system glib
        Manifest configure.ac:3 PKG_CHECK_MODULES glib-2.0
    system libtool
        Default configure.ac:1 makes `configure`
    system libxml2
        Manifest configure.ac:3 PKG_CHECK_MODULES libxml-2.0
    system ncurses
        Manifest configure.ac:6 AC_SEARCH_LIBS ncursesw
    system zlib
        Manifest configure.ac:5 AC_CHECK_LIB z
    C . - -
        inputs configure.ac
        native
    test: ./autogen.sh && ./configure && make check
    build: ./autogen.sh && ./configure && make
    ");
}

#[test]
fn make() {
    insta::assert_snapshot!(shown(&[
        ("Makefile", "CFLAGS += $(shell pkg-config --cflags --libs x11 freetype2)\nall: x\ntest:\n\t./x\n"),
        ("main.c", ""),
    ]), @"
    cc * pinned
        Default Makefile:1 a C or C++ project
    make * pinned
        Default Makefile:1 a C or C++ project
        Default Makefile:3 test:
        Default Makefile:2 all:
    system freetype
        Manifest Makefile:1 CFLAGS += $(shell pkg-config --cflags --libs x11 freetype2)
    system x11
        Manifest Makefile:1 CFLAGS += $(shell pkg-config --cflags --libs x11 freetype2)
    C . - -
        inputs Makefile
        native
    test: make test
    build: make all
    ");
}

#[test]
fn a_package_needs_what_its_own_source_is_built_with() {
    insta::assert_snapshot!(shown(&[
        ("setup.py", "NAME = 'PyYAML'\nsetup(name=NAME, ext_modules=[Extension('yaml._yaml', ['y.pyx'])])\n"),
    ]), @"
    cc * pinned
        Default setup.py:2 ext_modules
    make * pinned
        Default setup.py:2 ext_modules
    python *
        Default setup.py:1 a Python project
    uv * pinned
        Default setup.py:1 installs Python projects
    system libyaml
        Manifest setup.py:1 is PyYAML
    Python . pip -
        inputs setup.py
        installable, native
    build: uv build
    ");
    insta::assert_snapshot!(shown(&[
        ("Cargo.toml", "[package]\nname = \"libdbus-sys\"\nversion = \"0.2.5\"\nedition = \"2021\"\n"),
        ("package.json", r#"{"name": "canvas", "version": "3.0.0"}"#),
    ]), @"
    cc * pinned
        Default Cargo.toml:1 rust links with it
    node 22 (firm *)
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm *
        Default package.json:1 installs Node projects
    rust *
        Default Cargo.toml:1 a Rust project
    system cairo
        Manifest package.json:1 is canvas
    system dbus
        Manifest Cargo.toml:2 is what links it
    system giflib
        Manifest package.json:1 is canvas
    system libjpeg
        Manifest package.json:1 is canvas
    system librsvg
        Manifest package.json:1 is canvas
    system pango
        Manifest package.json:1 is canvas
    system pixman
        Manifest package.json:1 is canvas
    Node . npm -
        inputs package.json
    Rust . cargo -
        inputs Cargo.toml
    test: cargo test
    build: cargo build
    ");
}

#[test]
fn what_c_is_checked_by() {
    let test = |name: &str, text: &str| {
        let makefile = ("Makefile", "test: all\n\t./long\ncheck: all\n\t./short\n");
        detected(&files(&[makefile, (name, text)])).run.test
    };
    assert_eq!(test("main.c", "").as_deref(), Some("make check"));
    assert_eq!(test("lib/README", "").as_deref(), Some("make check"));
    assert_eq!(test("pyproject.toml", "[project]\nname = \"x\"\n").as_deref(), Some("make test"));
}

#[test]
fn a_library_that_is_bundled_by_choice_is_the_systems() {
    let lock = "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"1.0.0\"\ndependencies = [\n \"openssl-sys\",\n]\n\n[[package]]\nname = \"openssl-sys\"\nversion = \"0.9.1\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\ndependencies = [\n \"openssl-src\",\n]\n";
    let system = |features: &str| {
        let manifest =
            format!("[package]\nname = \"own\"\nversion = \"1.0.0\"\n[features]\n{features}");
        let found = shown(&[("Cargo.toml", &manifest), ("Cargo.lock", lock)]);
        found
            .lines()
            .filter_map(|l| l.strip_prefix("system ").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(system("static-ssl = [\"openssl-sys/vendored\"]\n"), ["openssl"]);
    assert_eq!(system("vendored = [\"openssl-sys/vendored\"]\n"), ["openssl"]);
    assert_eq!(system("static-ssl = [\"some-sys/static-ssl\"]\n"), ["openssl"]);
    assert!(system("default = [\"vendored\"]\nvendored = [\"openssl-sys/vendored\"]\n").is_empty());
    assert!(system("other = []\n").is_empty());
    let manifest = "[package]\nname = \"own\"\n[target.'cfg(all(unix, not(target_os = \"macos\")))'.dependencies.openssl-sys]\nversion = \"0.9\"\n[target.'cfg(windows)'.dependencies]\nlibudev-sys = \"0.1\"\n";
    let found = shown(&[("Cargo.toml", manifest)]);
    assert!(found.contains("system openssl") && !found.contains("udev"), "{found}");
}
