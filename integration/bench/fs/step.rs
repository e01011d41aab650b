//! What runs, and is timed, in a process of the user's: another user's mount is closed also
//! to root. It prints microseconds.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The first argument of such a process.
pub const WORD: &str = "__step";

/// Files a directory, where files are made.
const A_DIRECTORY: usize = 100;

/// Runs one step in the current directory.
pub fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let took = match words.as_slice() {
        ["sh", script] => shell(script),
        ["read", list] => read(Path::new(list)),
        ["create", files] => create(files.parse().expect("a number")),
        ["delete"] => delete(),
        ["fio", arguments @ ..] => fio(arguments),
        ["many", times, program, arguments @ ..] => {
            many(times.parse().expect("a number"), program, arguments)
        }
        other => Err(format!("no step: {other:?}")),
    };
    match took {
        Ok(took) => {
            println!("{}", took.as_secs_f64() * 1e6);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn shell(script: &str) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut command = Command::new("sh");
    let output = command.args(["-ec", script]).stdin(Stdio::null()).output();
    let took = begun.elapsed();
    let output = output.map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(took),
        false => Err(format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Opens, reads to its end and closes every file of the list.
fn read(list: &Path) -> Result<Duration, String> {
    let list = std::fs::read_to_string(list).map_err(|e| e.to_string())?;
    let mut buffer = vec![0; 1 << 17];
    let begun = Instant::now();
    for path in list.lines() {
        let mut file = std::fs::File::open(path).map_err(|e| format!("{path}: {e}"))?;
        while file.read(&mut buffer).map_err(|e| format!("{path}: {e}"))? > 0 {}
    }
    Ok(begun.elapsed())
}

fn create(files: usize) -> Result<Duration, String> {
    let text = [b'x'; 300];
    let begun = Instant::now();
    let make = || -> std::io::Result<()> {
        std::fs::create_dir("made")?;
        for i in 0..files {
            let dir = format!("made/{}", i / A_DIRECTORY);
            if i % A_DIRECTORY == 0 {
                std::fs::create_dir(&dir)?;
            }
            std::fs::File::create_new(format!("{dir}/{i}"))?.write_all(&text)?;
        }
        Ok(())
    };
    make().map_err(|e| e.to_string())?;
    Ok(begun.elapsed())
}

fn delete() -> Result<Duration, String> {
    let begun = Instant::now();
    std::fs::remove_dir_all("made").map_err(|e| e.to_string())?;
    Ok(begun.elapsed())
}

/// The median of as many runs of a program, in whose arguments `{}` is the number of the run.
fn many(times: usize, program: &str, arguments: &[&str]) -> Result<Duration, String> {
    let mut took = Vec::new();
    for i in 0..times {
        let mut command = Command::new(program);
        command.args(arguments.iter().map(|word| word.replace("{}", &i.to_string())));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let begun = Instant::now();
        let status = command.status().map_err(|e| e.to_string())?;
        took.push(begun.elapsed());
        if !status.success() {
            return Err(format!("{program} failed the {i}th time"));
        }
    }
    took.sort();
    took.get(took.len() / 2).copied().ok_or("none".to_owned())
}

/// One job of fio's, and the time that it says it took: laying out the file is not counted.
fn fio(arguments: &[&str]) -> Result<Duration, String> {
    let mut command = Command::new("fio");
    command.args(["--name=bench", "--filename=bench.fio", "--output-format=json", "--thread"]);
    let output = command.args(arguments).output().map_err(|e| format!("fio: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // It may warn before the JSON begins.
    let json = text.find('{').map_or("", |at| &text[at..]);
    let said: serde_json::Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let job = &said["jobs"][0];
    let took = |way: &str| job[way]["runtime"].as_u64().unwrap_or(0);
    match took("read") + took("write") {
        0 => Err("fio did nothing".to_owned()),
        ms => Ok(Duration::from_millis(ms)),
    }
}
