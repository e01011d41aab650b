//! Node's projects, their managers and versions.

use super::shown;

#[test]
fn npm_with_a_lock() {
    insta::assert_snapshot!(shown(&[
        ("package.json", r#"{
  "name": "web",
  "engines": { "node": ">=20 <23" },
  "scripts": { "test": "node --test", "build": "tsc", "dev": "vite" },
  "dependencies": { "better-sqlite3": "^11.0.0" }
}"#),
        ("package-lock.json", "{\n  \"name\": \"web\",\n  \"lockfileVersion\": 3,\n"),
        (".npmrc", "save-exact=true\n"),
        (".nvmrc", "# ours\nlts/jod\n"),
        (".github/workflows/ci.yml", "jobs:\n  test:\n    strategy:\n      matrix:\n        node-version: [20, 22, '24.x', lts/*]\n"),
    ]), @r#"
    cc * pinned
        Default package.json:5 better-sqlite3 is compiled
    make * pinned
        Default package.json:5 better-sqlite3 is compiled
    node 22 pinned
        Pin .nvmrc:2 lts/jod
        Manifest package.json:3 engines.node ">=20 <23"
        Tested .github/workflows/ci.yml:5 node 20
        Tested .github/workflows/ci.yml:5 node 22
        Tested .github/workflows/ci.yml:5 node 24.x
        Tested .github/workflows/ci.yml:5 node lts/*
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm >=7 pinned
        Lock package-lock.json:3 lockfileVersion 3
        Default package-lock.json:1 a lock file of npm
    python *
        Default package.json:5 better-sqlite3 is compiled
    Node . npm package-lock.json
        inputs .npmrc, package-lock.json, package.json
        native
    test: npm test
    build: npm run build
    start: npm run dev
    "#);
}

#[test]
fn pnpm_workspace_with_a_pinned_manager() {
    insta::assert_snapshot!(shown(&[
        ("package.json", r#"{
  "packageManager": "pnpm@10.15.1+sha512.abc",
  "devEngines": { "runtime": { "name": "node", "version": "^22.3" } },
  "scripts": { "test": "pnpm -r test", "start": "node ." }
}"#),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n\nsettings:\n"),
        ("pnpm-workspace.yaml", "packages:\n  - 'packages/*'\n  - '!packages/old'\n"),
        ("packages/a/package.json", r#"{"dependencies": {"b": "workspace:*"}}"#),
        ("packages/b/package.json", "{}"),
        ("packages/old/package.json", "{}"),
        ("packages/none/README.md", ""),
        ("patches/x.patch", ""),
    ]), @r#"
    node >=22.3 <23
        Manifest package.json:3 devEngines.runtime node "^22.3"
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    pnpm 10.15.1 pinned
        Pin package.json:2 packageManager "pnpm@10.15.1"
        Lock pnpm-lock.yaml:1 lockfileVersion 9.0
        Default pnpm-lock.yaml:1 a lock file of pnpm
    Node . pnpm pnpm-lock.yaml
        inputs package.json, packages/a/package.json, packages/b/package.json, patches/x.patch, pnpm-lock.yaml, pnpm-workspace.yaml
    test: pnpm test
    start: pnpm start
    "#);
}

#[test]
fn managers_that_are_not_provided() {
    insta::assert_snapshot!(shown(&[
        ("package.json", r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#),
        ("yarn.lock", "# yarn lockfile v1\n"),
    ]), @"
    node 22 (firm *)
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm *
        Default package.json:1 installs Node projects
    Node . npm -
        inputs package.json, yarn.lock
    note: yarn is not provided yet: npm installs in its place, from the manifests and as of the commit's date, without the lock file [yarn.lock:1]
    ");
    insta::assert_snapshot!(shown(&[
        ("package.json", r#"{"packageManager": "bun@1.2.0", "dependencies": {"a": "workspace:*"}}"#),
        ("bun.lock", "{}"),
    ]), @"
    node 22 (firm *)
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    Node . - -
        inputs bun.lock, package.json
    note: bun is not provided yet, and npm cannot read these manifests: no dependencies are installed [bun.lock:1]
    ");
}

#[test]
fn a_manager_that_runs_on_the_node_that_is_pinned() {
    let text = shown(&[("package.json", "{}"), (".node-version", "18.20.4\n")]);
    insta::assert_snapshot!(text, @"
    node 18.20.4 pinned
        Pin .node-version:1 18.20.4
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm <11 || >=13
        Manifest package.json:1 npm 12 runs on node ^22.22.2 || ^24.15.0 || >=26 only
        Manifest package.json:1 npm 11 runs on node ^20.17.0 || >=22.9.0 only
        Default package.json:1 installs Node projects
    Node . npm -
        inputs package.json
    ");
}
