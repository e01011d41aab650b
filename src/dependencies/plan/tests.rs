//! What goes into a plan's key, and the commands of each manager.

use std::sync::Arc;

use super::*;
use crate::config::{Addresses, Config};
use crate::home::Home;

const NODE_LOCK: &str = r#"{"lockfileVersion":3}"#;
/// 2024-05-06 07:08:09 UTC.
const DATE: i64 = 1_714_979_289;

struct World {
    ctx: Context,
    files: BTreeMap<String, Vec<u8>>,
    ids: Ids,
    environment: String,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(files: &[(&str, &str)]) -> World {
        let dir = tempfile::tempdir().expect("made");
        let ctx = Context::of_test(dir.path(), BTreeMap::new());
        let files = files.iter().map(|(p, t)| ((*p).to_owned(), t.as_bytes().to_vec())).collect();
        let ids = Ids { tree: "t1".into(), commit: "c1".into() };
        World { ctx, files, ids, environment: "e1".into(), _dir: dir }
    }

    fn set(&mut self, path: &str, text: &str) {
        self.files.insert(path.into(), text.as_bytes().to_vec());
    }

    fn plan(&self, project: &Project) -> Option<Plan> {
        let detected = Detected { projects: vec![project.clone()], ..Detected::default() };
        plan(&self.ctx, &detected, &self.environment, &self.files, &self.ids).pop()
    }

    fn key(&self, project: &Project) -> String {
        self.plan(project).expect("there is something to install").key
    }
}

fn project(ecosystem: Ecosystem, manager: &str, lock: Option<&str>, manifests: &[&str]) -> Project {
    Project {
        manager: Some(manager.into()),
        lock: lock.map(Into::into),
        manifests: strings(manifests),
        ..Project::new(ecosystem, "", DATE)
    }
}

fn npm() -> (World, Project) {
    let manifest = r#"{"dependencies":{"left-pad":"1"}}"#;
    let world = World::new(&[("package.json", manifest), ("package-lock.json", NODE_LOCK)]);
    let lock = Some("package-lock.json");
    (world, project(Ecosystem::Node, "npm", lock, &["package.json", "package-lock.json"]))
}

fn commands(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| step.argv.join(" ")).collect()
}

#[test]
fn every_input_changes_the_key_and_nothing_else_does() {
    let (mut world, project) = npm();
    let key = world.key(&project);
    assert_eq!(key.len(), 64);
    assert_eq!(world.key(&project), key, "the same inputs, the same key");
    let changed = |what: &str, change: &mut dyn FnMut(&mut World), differs: bool| {
        let (mut other, project) = npm();
        other.ctx.home = world.ctx.home.clone();
        change(&mut other);
        assert_eq!(other.key(&project) != key, differs, "{what}");
    };
    changed("manifest", &mut |w| w.set("package.json", r#"{"dependencies":{"a":"1"}}"#), true);
    changed("lock", &mut |w| w.set("package-lock.json", "{}"), true);
    changed("configuration", &mut |w| w.set(".npmrc", "legacy-peer-deps=true"), true);
    changed("an empty configuration", &mut |w| w.set(".npmrc", ""), true);
    changed("patches", &mut |w| w.set("patches/left-pad+1.patch", "-"), true);
    changed("environment", &mut |w| w.environment = "e2".into(), true);
    changed("platform", &mut |w| w.ctx.platform.arch = "aarch64".into(), true);
    changed(
        "registry",
        &mut |w| {
            let npm = "https://mirror".into();
            let addresses = Addresses { npm, ..Addresses::default() };
            w.ctx.config = Arc::new(Config { addresses, ..Config::default() });
        },
        true,
    );
    changed("another source file", &mut |w| w.set("index.js", "x"), false);
    changed("source tree", &mut |w| w.ids.tree = "t2".into(), false);
    changed("commit", &mut |w| w.ids.commit = "c2".into(), false);
    world.ctx.home = Home::open(&world.ctx.home.root().join("other")).expect("made");
    assert_ne!(world.key(&project), key, "home");
}

#[test]
fn names_and_values_do_not_run_together() {
    let inputs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let a = key(&inputs(&[("ab", "c")]));
    assert_ne!(a, key(&inputs(&[("a", "bc")])));
    assert_ne!(key(&inputs(&[])), key(&inputs(&[("", "")])));
    // What is hashed is fixed: a change here makes every home install everything again.
    assert_eq!(a, "56512860c6d089b5672b69bcbd214290744b076adad3c5adb43ee81c9d4a4911");
}

#[test]
fn the_source_counts_where_it_is_built() {
    let (mut world, mut project) = npm();
    project.builds_native = true;
    let native = world.key(&project);
    project.version_from_git = true;
    let versioned = world.key(&project);
    world.ids.commit = "c2".into();
    assert_ne!(world.key(&project), versioned);
    project.version_from_git = false;
    assert_eq!(world.key(&project), native);
    world.ids.tree = "t2".into();
    assert_ne!(world.key(&project), native);
}

#[test]
fn npm_is_frozen_to_its_lock_or_to_the_date() {
    let (mut world, mut project) = npm();
    let plan = world.plan(&project).expect("planned");
    assert_eq!(commands(&plan), ["npm ci"]);
    assert_eq!((plan.directories, plan.outputs), (vec!["node_modules".to_owned()], false));
    project.lock = None;
    let plan = world.plan(&project).expect("planned");
    assert_eq!(commands(&plan), ["npm install --no-package-lock --before=2024-05-07T00:00:00Z"]);
    let otherwise = plan.steps[0].otherwise.first().expect("a second way");
    assert_eq!(otherwise.argv.join(" "), "npm install --no-package-lock");
    world.set("package.json", r#"{"name":"nothing-to-install"}"#);
    assert_eq!(world.plan(&project), None);
}

#[test]
fn what_a_projects_own_scripts_build_is_captured_and_keyed_by_the_source() {
    let (mut world, project) = npm();
    let with = |script: &str| format!(r#"{{"scripts":{{"prepare":"{script}"}}}}"#);
    world.set("package.json", &with("tsc -p ."));
    let plan = world.plan(&project).expect("planned");
    assert!(plan.outputs && plan.inputs.contains_key("source tree"));
    world.set("package.json", &with("husky install"));
    assert_eq!(world.plan(&project), None, "only hooks");
}

#[test]
fn what_is_installed_stays_where_an_own_script_fails_afterwards() {
    let (mut world, project) = npm();
    world.set(
        "package.json",
        r#"{"name":"p","version":"1.0.0","scripts":{"install":"a","prepublish":"b","prepare":"c"}}"#,
    );
    let plan = world.plan(&project).expect("planned");
    let forgiven: Vec<_> = plan.steps[0].otherwise.iter().map(|o| (&o.argv[..], &o.when)).collect();
    let when = |name: &str| {
        vec![format!("> p@1.0.0 {name}\n"), format!("Failed at the p@1.0.0 {name} script")]
    };
    // Not `install`, which everybody runs who depends on it.
    assert_eq!(forgiven, [(&[][..], &when("prepare")), (&[], &when("prepublish"))]);
}

#[test]
fn pnpm_keeps_to_itself() {
    let (mut world, mut project) = npm();
    project.manager = Some("pnpm".into());
    world.set("pnpm-workspace.yaml", "packages: ['packages/*']");
    let plan = world.plan(&project).expect("planned");
    let command = &commands(&plan)[0];
    assert!(command.starts_with("pnpm install --frozen-lockfile "), "{command}");
    assert!(command.contains(" --store-dir=/zagi/cache/pnpm/store "), "{command}");
    assert_eq!(plan.nested.as_deref(), Some("node_modules"));
    assert!(plan.inputs.contains_key("file pnpm-workspace.yaml"));
}

#[test]
fn the_first_yarn_goes_to_the_configured_registry() {
    let (mut world, mut project) = npm();
    project.manager = Some("yarn".into());
    project.lock = Some("yarn.lock".into());
    let entry = |at: &str| {
        format!(
            "# yarn lockfile v1\n\na@1:\n  version \"1.0.0\"\n  resolved \"{at}/a/-/a-1.0.0.tgz#0\"\n"
        )
    };
    world.set("yarn.lock", &entry("https://registry.yarnpkg.com"));
    let plan = world.plan(&project).expect("planned");
    assert_eq!(
        commands(&plan),
        ["yarn install --non-interactive --no-progress --registry=https://registry.npmjs.org/ \
          --cache-folder=/zagi/cache/yarn/v1 --mutex=file:/zagi/cache/yarn/v1.mutex \
          --ignore-engines --frozen-lockfile"]
    );
    assert_eq!(plan.files["yarn.lock"], entry("https://registry.npmjs.org"));
    assert_eq!(plan.directories, ["node_modules"]);
    let elsewhere = entry("https://packages.example.org");
    world.set("yarn.lock", &elsewhere);
    assert!(world.plan(&project).expect("planned").files.is_empty(), "somebody else's registry");
    project.lock = None;
    let plan = world.plan(&project).expect("planned");
    assert!(commands(&plan)[0].ends_with(" --no-lockfile"), "{:?}", plan.steps);
}

#[test]
fn the_newer_yarn_leaves_what_its_linker_needs() {
    let (mut world, mut project) = npm();
    project.manager = Some("yarn".into());
    project.lock = Some("yarn.lock".into());
    world.set("yarn.lock", "__metadata:\n  version: 8\n");
    let plan = world.plan(&project).expect("planned");
    assert_eq!(commands(&plan), ["yarn install --immutable"]);
    assert_eq!(plan.env["YARN_NPM_REGISTRY_SERVER"], "https://registry.npmjs.org");
    assert_eq!(plan.env["YARN_ENABLE_GLOBAL_CACHE"], "false");
    assert_eq!(plan.vars["YARN_ENABLE_GLOBAL_CACHE"], "false");
    for made in [".pnp.cjs", ".yarn/cache", ".yarn/unplugged", ".yarn/install-state.gz"] {
        assert!(plan.directories.contains(&made.to_owned()), "{made}");
    }
    world.set(".pnp.cjs", "committed");
    world.set(".yarn/cache/a.zip", "committed");
    let plan = world.plan(&project).expect("planned");
    assert!(plan.outputs, "archives that were not committed");
    assert!(!plan.directories.iter().any(|d| d == ".pnp.cjs" || d == ".yarn/cache"));
    let (mut world, _) = npm();
    world.set("yarn.lock", "__metadata:\n  version: 8\n");
    world.set(".yarnrc.yml", "nodeLinker: \"node-modules\" # as before\n");
    let plan = world.plan(&project).expect("planned");
    assert_eq!(plan.env["YARN_ENABLE_GLOBAL_CACHE"], "true");
    assert_eq!(plan.directories, ["node_modules", ".yarn/install-state.gz"]);
    project.lock = None;
    let plan = world.plan(&project).expect("planned");
    assert_eq!(commands(&plan), ["yarn install --no-immutable"]);
    assert!(plan.directories.contains(&"yarn.lock".to_owned()), "no script starts without it");
}

#[test]
fn bun_is_frozen_and_copies() {
    let (world, mut project) = npm();
    project.manager = Some("bun".into());
    project.lock = Some("bun.lock".into());
    let plan = world.plan(&project).expect("planned");
    assert_eq!(
        commands(&plan),
        ["bun install --no-progress --registry=https://registry.npmjs.org/ --backend=copyfile \
          --frozen-lockfile"]
    );
    assert_eq!(plan.env["BUN_INSTALL_CACHE_DIR"], "/zagi/cache/bun");
    project.lock = None;
    let plan = world.plan(&project).expect("planned");
    assert!(commands(&plan)[0].ends_with(" --no-save"), "{:?}", plan.steps);
}

#[test]
fn python_without_a_lock_is_installed_as_of_the_date() {
    let mut world = World::new(&[
        ("pyproject.toml", "[project]\nname='a'"),
        ("requirements/tests.txt", "-r base.txt\n-c ../limits.txt\n-e ./plugin\npytest\n"),
        ("requirements/base.txt", "markupsafe"),
        ("limits.txt", "markupsafe<3"),
        ("requirements/plugin/setup.py", "setup()"),
    ]);
    let mut project = project(Ecosystem::Python, "pip", None, &["pyproject.toml"]);
    project.installable = true;
    project.extras = strings(["i18n", "test"]);
    project.groups = strings(["tests"]);
    project.requirements_files = strings(["requirements/tests.txt"]);
    project.packages = strings(["pytest"]);
    let plan = world.plan(&project).expect("planned");
    assert_eq!(
        commands(&plan),
        [
            "uv venv --no-project --python python3 --relocatable .venv",
            "uv pip install --python .venv/bin/python --exclude-newer 2024-05-07T00:00:00Z \
             -r requirements/tests.txt -e .[i18n,test] --group tests pytest",
        ]
    );
    for file in ["requirements/base.txt", "limits.txt", "requirements/plugin/setup.py"] {
        assert!(plan.inputs.contains_key(&format!("file {file}")), "{file}");
    }
    world.set("limits.txt", "markupsafe<2");
    assert_ne!(world.key(&project), plan.key);
    // setuptools of that day could not make editable installs as uv does.
    let plan = world.plan(&Project { date: 1_598_100_000, ..project.clone() }).expect("planned");
    assert!(
        commands(&plan)[1].starts_with(
            "uv pip install --python .venv/bin/python --exclude-newer 2020-08-23T00:00:00Z \
             --exclude-newer-package setuptools=2022-09-01T00:00:00Z -r "
        ),
        "{:?}",
        plan.steps
    );
    let nothing = Project { installable: false, ..Project::new(Ecosystem::Python, "", DATE) };
    assert_eq!(world.plan(&Project { manager: Some("pip".into()), ..nothing }), None);
}

#[test]
fn python_with_a_lock_follows_it() {
    let world = World::new(&[("sub/pyproject.toml", "[tool.uv.workspace]"), ("sub/uv.lock", "")]);
    let mut project = project(Ecosystem::Python, "uv", Some("sub/uv.lock"), &[]);
    project.root = "sub".into();
    project.extras = strings(["test"]);
    let plan = world.plan(&project).expect("planned");
    assert_eq!(commands(&plan)[1], "uv sync --locked --all-packages --extra test");
    assert_eq!(plan.directories, ["sub/.venv"]);
    project.groups = strings(["tests"]);
    let plan = world.plan(&project).expect("planned");
    assert_eq!(
        commands(&plan)[1],
        "uv sync --locked --all-packages --no-default-groups --extra test --group tests"
    );
    assert!(plan.inputs.contains_key("file sub/uv.lock"));
}

#[test]
fn what_another_managers_lock_pins_is_installed_by_uv() {
    let lock = "# @generated by Poetry 1.8.3 and\n[[package]]\nname = 'pytest'\nversion = '8.0'\n\
                files = [{hash = 'sha256:1'}]\n[metadata]\nlock-version = '2.0'\n";
    let manifest = "[tool.poetry.dependencies]\npytest = '*'\n";
    let mut world = World::new(&[("sub/poetry.lock", lock), ("sub/pyproject.toml", manifest)]);
    let mut project = project(Ecosystem::Python, "poetry", Some("sub/poetry.lock"), &[]);
    project.root = "sub".into();
    project.installable = true;
    project.packages = strings(["PyTest>=7", "pytest-cov"]);
    let plan = world.plan(&project).expect("planned");
    let until = "--exclude-newer 2024-05-07T00:00:00Z";
    let install = "uv pip install --python .venv/bin/python";
    assert_eq!(
        commands(&plan)[1..],
        [
            format!("{install} --no-deps --require-hashes -r .zagi-poetry-hashed.txt"),
            format!("{install} {until} --no-deps -e ."),
            format!("{install} {until} pytest-cov"),
            format!("uv tool install --python .venv/bin/python {until} poetry==1.8.3"),
        ]
    );
    let text = &plan.files["sub/.zagi-poetry-hashed.txt"];
    assert_eq!(text, "pytest==8.0 --hash=sha256:1\n");
    assert_eq!(plan.directories, ["sub/.venv", "sub/.zagi/tools"]);
    assert_eq!(plan.env["UV_TOOL_BIN_DIR"], "/zagi/workspace/sub/.venv/bin");
    assert!(plan.inputs.contains_key("file sub/poetry.lock"));
    world.set("sub/pyproject.toml", "[tool.poetry.dependencies]\nrequests = '*'\n");
    let disagrees = world.plan(&project).expect("planned").disagrees;
    assert_eq!(disagrees.as_deref(), Some("not in the lock file: requests"));
}

#[test]
fn cargo_fetches_what_the_lock_names() {
    let manifest = "[package]\nname='a'\n[target.'cfg(unix)'.dev-dependencies]\nlibc='0.2'\n";
    let lock = "[[package]]\nname='libc'\nversion='0.2.0'\nsource = \"registry+x\"\n";
    let mut world = World::new(&[("Cargo.toml", manifest)]);
    let mut project = project(Ecosystem::Rust, "cargo", None, &["Cargo.toml"]);
    let plan = world.plan(&project).expect("planned");
    let fetch = "cargo fetch --locked --target x86_64-unknown-linux-gnu";
    assert_eq!(commands(&plan), ["cargo generate-lockfile", fetch]);
    assert!(plan.directories.contains(&"Cargo.lock".to_owned()));
    assert_eq!(plan.vars["CARGO_HOME"], "{workspace}/.zagi/cargo");
    world.set("Cargo.lock", lock);
    project.lock = Some("Cargo.lock".into());
    let plan = world.plan(&project).expect("planned");
    assert_eq!(commands(&plan), [fetch]);
    assert!(!plan.directories.contains(&"Cargo.lock".to_owned()));
    world.set("Cargo.lock", "[[package]]\nname='a'\nversion='0.1.0'\n");
    assert_eq!(world.plan(&project), None, "no package of a registry");
    world.files.remove("Cargo.lock");
    world.set("Cargo.toml", "[package]\nname='a'\n[dependencies]\n");
    assert_eq!(world.plan(&project), None);
}

#[test]
fn a_mirror_of_crates_is_configured_where_cargo_will_look() {
    let mut world = World::new(&[("Cargo.toml", "[dependencies]\na='1'")]);
    let crates_index = "https://mirror/index".into();
    let addresses = Addresses { crates_index, ..Addresses::default() };
    world.ctx.config = Arc::new(Config { addresses, ..Config::default() });
    let plan = world.plan(&project(Ecosystem::Rust, "cargo", None, &["Cargo.toml"]));
    let text = &plan.expect("planned").files[".zagi/cargo/config.toml"];
    assert!(text.contains("registry = \"sparse+https://mirror/index/\""), "{text}");
}

#[test]
fn go_and_zig_fetch_only_where_there_is_something() {
    let mut world =
        World::new(&[("go.mod", "module a\n\ngo 1.22\n"), ("build.zig.zon", ".{ .name = .a }")]);
    let go = project(Ecosystem::Go, "go", None, &["go.mod"]);
    let zig = project(Ecosystem::Zig, "zig", None, &["build.zig"]);
    assert_eq!((world.plan(&go), world.plan(&zig)), (None, None));
    world.set("go.mod", "module a\nrequire (\n\tx.org/y v1.0.0\n)\n");
    let plan = world.plan(&go).expect("planned");
    assert_eq!(commands(&plan), ["go mod download"]);
    assert_eq!(plan.vars["GOMODCACHE"], "{workspace}/.zagi/go/mod");
    world.set("vendor/modules.txt", "# x.org/y v1.0.0");
    assert_eq!(world.plan(&go), None, "vendored");
    world.set("build.zig.zon", ".{ .dependencies = .{\n // none yet\n }, }");
    assert_eq!(world.plan(&zig), None);
    world.set("build.zig.zon", ".{ .dependencies = .{ .x = .{ .url = \"u\" } }, }");
    assert_eq!(commands(&world.plan(&zig).expect("planned")), ["zig build --fetch"]);
}

#[test]
fn who_installs_must_be_known() {
    let (world, mut project) = npm();
    project.manager = None;
    assert_eq!(world.plan(&project), None);
}
