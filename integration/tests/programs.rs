//! Agents as people install them, in `zagi agent`: Claude Code and Codex, each led by a server that
//! speaks its model's protocol and has it run the same commands. What must fail inside works
//! outside first.
//!
//! Source: the Messages API of Anthropic and the Responses API of OpenAI, both streamed as
//! server-sent events, as far as the two programs read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use zagi_integration::http::{Reply, Request, Server};
use zagi_integration::machine::{Machine, Said, Who};

const CANARY: &str = "c4nary-51be07";

/// What npm installs: the versions that were tried.
const PACKAGES: [&str; 2] = ["@anthropic-ai/claude-code@2.1.197", "@openai/codex@0.171.0"];

/// A model that has a program run its commands, one after the other, and keeps what it hears.
struct Model {
    server: Server,
    commands: Arc<Mutex<Vec<String>>>,
}

impl Model {
    fn start() -> Model {
        let commands = Arc::<Mutex<Vec<String>>>::default();
        let known = commands.clone();
        let server = Server::start(move |request| {
            let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let commands = known.lock().expect("nobody panics with it");
            match request.path.as_str() {
                "/v1/messages" => message(&asked, &commands),
                "/v1/responses" => response(&asked, &commands),
                _ => Reply::ok("{}").with("content-type", "application/json"),
            }
        });
        Model { server, commands }
    }

    fn port(&self) -> &str {
        self.server.base.rsplit(':').next().expect("a port")
    }

    /// Has `program` run the commands, and says what the model was told, all of it and what the
    /// commands printed.
    fn lead(&self, commands: &[String], program: &mut std::process::Command) -> (String, String) {
        *self.commands.lock().expect("nobody panics with it") = commands.to_vec();
        let before = self.server.requests().len();
        let said = Said::of(program);
        assert!(said.out.contains("all is done"), "{said:?}");
        let all = self.server.requests().split_off(before);
        let told = |request: &Request| String::from_utf8_lossy(&request.body).into_owned();
        let told: Vec<String> = all.iter().map(told).collect();
        let answers: Vec<String> = all.iter().map(answers).max_by_key(Vec::len).unwrap_or_default();
        assert_eq!(answers.len(), commands.len(), "{said:?}\n{told:?}");
        (told.concat(), answers.join("\n"))
    }
}

/// What the program says that its commands printed.
fn answers(request: &Request) -> Vec<String> {
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    match request.path.as_str() {
        "/v1/messages" => results(&asked).iter().map(|r| r["content"].to_string()).collect(),
        _ => outputs(&asked).iter().map(|r| r["output"].to_string()).collect(),
    }
}

fn events(all: &[Value]) -> Reply {
    let event = |event: &Value| {
        let kind = event["type"].as_str().expect("each has one");
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let text: String = all.iter().map(event).collect();
    Reply::ok(text).with("content-type", "text/event-stream")
}

/// The results of commands in what Claude Code sends.
fn results(asked: &Value) -> Vec<Value> {
    let messages = asked["messages"].as_array().into_iter().flatten();
    let parts = messages.filter_map(|message| message["content"].as_array()).flatten();
    parts.filter(|part| part["type"] == "tool_result").cloned().collect()
}

fn message(asked: &Value, commands: &[String]) -> Reply {
    let tools = asked["tools"].as_array();
    let can = tools.is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "Bash"));
    let next = commands.get(results(asked).len()).filter(|_| can);
    let (block, delta, stop) = match next {
        Some(command) => (
            json!({"type": "tool_use", "id": format!("t{}", results(asked).len()), "name": "Bash", "input": {}}),
            json!({"type": "input_json_delta", "partial_json":
                json!({"command": command, "description": "the next step"}).to_string()}),
            "tool_use",
        ),
        None => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": "all is done"}),
            "end_turn",
        ),
    };
    events(&[
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
            "model": asked["model"], "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
            "usage": {"output_tokens": 1}}),
        json!({"type": "message_stop"}),
    ])
}

/// The results of commands in what Codex sends.
fn outputs(asked: &Value) -> Vec<Value> {
    let input = asked["input"].as_array().into_iter().flatten();
    input.filter(|item| item["type"] == "function_call_output").cloned().collect()
}

fn response(asked: &Value, commands: &[String]) -> Reply {
    let n = outputs(asked).len();
    let item = match commands.get(n) {
        Some(command) => {
            json!({"type": "function_call", "id": format!("f{n}"), "call_id": format!("c{n}"),
            "name": "exec_command", "arguments": json!({"cmd": command}).to_string()})
        }
        None => json!({"type": "message", "id": "m", "role": "assistant",
            "content": [{"type": "output_text", "text": "all is done"}]}),
    };
    events(&[
        json!({"type": "response.created", "response": {"id": "r"}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {"id": "r", "usage": {"input_tokens": 1,
            "input_tokens_details": null, "output_tokens": 1, "output_tokens_details": null,
            "total_tokens": 2}}}),
    ])
}

/// A mounted project, and a user who has the programs and has set them up: for this model, and
/// with sandboxes of their own.
fn begin(machine: &mut Machine, model: &Model) -> PathBuf {
    let (work, port) = (machine.work(), model.port());
    let home = machine.sh(&work, "echo $HOME").ok().out.trim().to_owned();
    machine.set("SHELL", "/bin/bash");
    let make = "git config --global user.name U && git config --global user.email u@localhost && \
                git init -q origin && cd origin && echo 20 > .node-version && \
                echo '{\"name\": \"p\", \"version\": \"1.0.0\"}' > package.json && echo hello > file && \
                git add -A && git commit -qm first";
    machine.sh(&work, make).ok();
    machine.zagi(&["mount", "./origin", "w"]).ok();
    let dir = work.join("w");
    // Whom this machine trusts, which npm does not ask.
    let trusted = "/etc/ssl/certs/ca-certificates.crt";
    let install = format!("npm install -g --prefix {home}/.local --cafile {trusted}");
    machine.exec(&dir, &format!("{install} {}", PACKAGES.join(" "))).ok();
    let claude = json!({
        "env": {"ANTHROPIC_BASE_URL": model.server.base, "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        "sandbox": {"enabled": true},
    });
    let codex = format!(
        "model = \"gpt-5\"\nmodel_provider = \"here\"\nsandbox_mode = \"workspace-write\"\n\
         [model_providers.here]\nname = \"here\"\nbase_url = \"{}/v1\"\nwire_api = \"responses\"\n",
        model.server.base
    );
    let grants = format!(
        "version = 1\n[agent.claude]\nhosts = [\"127.0.0.1:{port}\"]\n\
         [agent.second]\nhosts = [\"127.0.0.1:{port}\"]\n"
    );
    for (path, text) in [
        (Path::new(&home).join(".claude/settings.json"), claude.to_string()),
        (Path::new(&home).join(".codex/config.toml"), codex),
        (Path::new(&home).join(".ssh/id_ed25519"), CANARY.to_owned()),
        (machine.home().join("agents.toml"), grants),
    ] {
        let parent = path.parent().expect("a directory");
        fs::create_dir_all(parent).expect("it is ours");
        machine.give(parent);
        fs::write(&path, text).expect("it is ours");
        machine.give(&path);
    }
    machine.set("PATH", &format!("{home}/.local/bin:/usr/local/bin:/usr/bin:/bin"));
    dir
}

#[test]
fn claude_code_and_codex_work_and_reach_nothing_of_the_users() {
    let model = Model::start();
    let mut machine = Machine::new(Who::Ordinary);
    let dir = begin(&mut machine, &model);
    let home = machine.sh(&machine.work(), "echo $HOME").ok().out.trim().to_owned();
    let commands = |program: &str, who: &str| {
        [
            format!("cat {home}/.ssh/id_ed25519"),
            format!("echo {who} > .git/hooks/pre-push; echo hooks $?"),
            format!("echo {who} >> file && git commit -qam 'of {who}' && git log -1 --format=%s"),
            format!("zagi --version; node --version; echo shell $0; {program} --version"),
        ]
    };
    let (no_sandbox, free) = (r#"{"sandbox":{"enabled":false}}"#, "danger-full-access");
    for (outside, inside, version, told_of_sandbox) in [
        (
            &["claude", "--settings", no_sandbox, "-p", "go", "--allowedTools", "Bash"][..],
            &["--", "claude", "-p", "go", "--allowedTools", "Bash"][..],
            "2.1.197 (Claude Code)",
            "--settings {\"sandbox\":{\"enabled\":false}} -p go",
        ),
        // By a name that has its host, and not its maker's.
        (
            &["codex", "exec", "-s", free, "go"],
            &["--name", "second", "--", "codex", "exec", "go"],
            "codex-cli 0.171.0",
            "-c sandbox_mode=\"danger-full-access\" exec go",
        ),
    ] {
        let name = outside[0];
        let own = format!("{home}/.local/bin/{name}");
        let outside = [&["exec", "--", &own], &outside[1..]].concat();
        let mut program = machine.zagi_in(&dir, &outside);
        let (told, answers) = model.lead(&commands("true", "outside"), &mut program);
        assert!(told.contains(CANARY) && answers.contains("hooks 0"), "the control: {answers}");
        machine.sh(&dir, "rm .git/hooks/pre-push").ok();

        let mut program = machine.zagi_in(&dir, &[&["agent"], inside].concat());
        let (told, answers) = model.lead(&commands(name, "inside"), &mut program);
        assert!(!told.contains(CANARY), "{answers}");
        assert!(!answers.contains("hooks 0"), "{answers}");
        machine.sh(&dir, "test ! -e .git/hooks/pre-push").ok();
        for words in ["of inside", "zagi 0.", "v20.", "shell /bin/bash", version] {
            assert!(answers.contains(words), "{words}: {answers}");
        }
        assert_eq!(machine.git(&dir, &["log", "-1", "--format=%s"]).ok().out, "of inside\n");
        // Its own sandbox, which not every machine has what it takes for.
        let log = Said::of(&mut machine.zagi_in(&dir, &["agent", "--log"])).ok().out;
        assert!(log.contains(&format!("began     {name} {told_of_sandbox}")), "{log}");
    }
}
