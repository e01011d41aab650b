//! `zagi ide`: the settings by which an editor sees a project's tools.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::error::CommandError;
use super::output::print;
use super::settings::Settings;
use crate::environment::activate;

/// Write the settings by which an editor sees the tools of a project
///
/// Editors are started by a desktop that knows no hook, so they are told where the tools are:
/// programs in `.zagi/env/bin` need nothing else. A file of settings that is there already is left
/// alone, and what to add to it is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi ide vscode\n  zagi ide neovim ~/src/web")]
pub struct Ide {
    editor: Editor,
    /// The project; that of the current directory if not given
    dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Editor {
    /// `.vscode/settings.json`
    Vscode,
    /// `.zed/settings.json`
    Zed,
    /// `.nvim.lua`, which Neovim reads with `set exrc`
    Neovim,
    /// Prints the paths for the dialogs of its IDEs, which keep them outside of the project
    Jetbrains,
}

impl Ide {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let dir = settings.directory(self.dir);
        let (root, _) = activate::environment_of(&dir, &ctx.home.envs()).ok_or_else(|| {
            CommandError::failed(format!("`{}` has no tools of zagi's", dir.display()))
                .hint("`zagi init` gives a directory its tools, `zagi mount` makes a workspace")
        })?;
        let (name, text) = match self.editor {
            Editor::Vscode => (".vscode/settings.json", pretty(&vscode(&root))),
            Editor::Zed => (".zed/settings.json", pretty(&zed(&root))),
            Editor::Neovim => (".nvim.lua", NEOVIM.to_owned()),
            Editor::Jetbrains => {
                print(&jetbrains(&root))?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        let path = root.join(name);
        match create(&path, &text) {
            Ok(()) => eprintln!("wrote {}", path.display()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                eprintln!("`{}` is there already; add to it:", path.display());
                print(&text)?;
            }
            Err(e) => {
                return Err(CommandError::failed(format!(
                    "cannot write `{}`: {e}",
                    path.display()
                )));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Only where nothing is: not through a link either.
fn create(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        match std::fs::create_dir(parent) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Directories of programs below the project, in the order of PATH.
const PLACES: [&str; 3] = [".venv/bin", "node_modules/.bin", ".zagi/env/bin"];

/// The first place below `root` that has `program`.
fn found(root: &Path, program: &str) -> Option<String> {
    let mut paths = PLACES.iter().map(|place| format!("{place}/{program}"));
    paths.find(|path| root.join(path).symlink_metadata().is_ok())
}

fn path_variable(root: &str, rest: &str) -> String {
    PLACES.iter().map(|place| format!("{root}/{place}:")).collect::<String>() + rest
}

/// Settings of VS Code and of the extensions that its makers and the languages' publish.
fn vscode(root: &Path) -> Value {
    let here = "${workspaceFolder}";
    let path = path_variable(here, "${env:PATH}");
    let mut out = json!({ "terminal.integrated.env.linux": { "PATH": path } });
    let at = |program: &str| Some(format!("{here}/{}", found(root, program)?));
    for (program, key) in [("python", "python.defaultInterpreterPath"), ("zig", "zig.path")] {
        if let Some(place) = at(program) {
            out[key] = place.into();
        }
    }
    if let Some(go) = at("go") {
        out["go.alternateTools"] = json!({ "go": go });
    }
    if at("cargo").is_some() {
        out["rust-analyzer.server.extraEnv"] = json!({ "PATH": path });
    }
    if let Some(node) = at("node") {
        out["eslint.runtime"] = node.into();
    }
    out
}

/// Zed knows no word for the project's directory.
fn zed(root: &Path) -> Value {
    let path = path_variable(&root.to_string_lossy(), "$PATH");
    let mut out = json!({ "terminal": { "env": { "PATH": path } } });
    if found(root, "cargo").is_some() {
        out["lsp"] = json!({ "rust-analyzer": { "binary": { "env": { "PATH": path } } } });
    }
    out
}

const NEOVIM: &str = "-- The tools of this project, for everything that Neovim starts.\n\
local root = vim.fs.dirname(debug.getinfo(1, \"S\").source:sub(2))\n\
for _, place in ipairs({ \".zagi/env/bin\", \"node_modules/.bin\", \".venv/bin\" }) do\n\
\x20 vim.env.PATH = root .. \"/\" .. place .. \":\" .. vim.env.PATH\n\
end\n";

fn jetbrains(root: &Path) -> String {
    let rows = [
        ("python", "Settings | Python Interpreter | Existing"),
        ("node", "Settings | Languages & Frameworks | Node.js"),
        ("go", "Settings | Go | GOROOT (the directory above `bin`)"),
        ("cargo", "Settings | Rust | Toolchain location (its directory)"),
        ("java", "Project Structure | SDKs (the directory above `bin`)"),
    ];
    let mut out = String::new();
    for (program, place) in rows {
        if let Some(path) = found(root, program) {
            out.push_str(&format!("{place}:\n  {}\n", root.join(path).display()));
        }
    }
    out + "For terminals and run configurations: start the IDE by `zagi exec -- idea .`\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_is_told_of_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        for file in [".venv/bin/python", ".zagi/env/bin/python", ".zagi/env/bin/go"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let settings = vscode(dir.path());
        assert_eq!(
            settings["python.defaultInterpreterPath"],
            "${workspaceFolder}/.venv/bin/python"
        );
        assert_eq!(settings["go.alternateTools"]["go"], "${workspaceFolder}/.zagi/env/bin/go");
        assert!(settings.get("eslint.runtime").is_none());
        assert!(jetbrains(dir.path()).contains(".venv/bin/python\n"));
        let file = dir.path().join(".vscode/settings.json");
        create(&file, "{}").unwrap();
        assert_eq!(create(&file, "x").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "{}");
    }
}
